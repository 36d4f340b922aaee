"""How well a score ranks positive rows, as figures and as curves of a bounded number of points.

The area under the ROC curve, average precision, and precision at k of clusters that are looked at day by day, as
Le Borgne, Siblini, Lebichot and Bontempi (2022) define it.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from my_platform.errors import Refused

_Z_95 = 1.959963984540054
_LOG_ODDS_LIMIT = 12.0


@dataclass(frozen=True)
class PrecisionAtK:
    """Precision at k of the clusters that are looked at.

    `by_day` has one row a day, in order: day, clusters (not yet found), positives (those of them with a positive
    row that day), found (positives among the k highest), precision (found / k). `mean` is over its days.
    """

    k: int
    by_day: pl.DataFrame
    mean: float


@dataclass(frozen=True)
class Evaluation:
    """The three figures of a scored test set, and its size."""

    rows: int
    positives: int
    auc_roc: float
    average_precision: float
    precision_at_k: PrecisionAtK


def auc_roc(label: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve; `label` is true or false for each score.

    Raises Refused where a value is missing or one of the classes has no row.
    """
    from sklearn.metrics import roc_auc_score

    labels, scores = _checked(label, score)
    return float(roc_auc_score(labels, scores))


def average_precision(label: ArrayLike, score: ArrayLike) -> float:
    """Average precision: precision summed over the steps of recall, without interpolation.

    Raises Refused where a value is missing or one of the classes has no row.
    """
    from sklearn.metrics import average_precision_score

    labels, scores = _checked(label, score)
    return float(average_precision_score(labels, scores))


def precision_at_k(scored: pl.DataFrame, k: int = 100) -> PrecisionAtK:
    """Precision at k of scored rows with the columns day, cluster, score, label.

    Day by day, a cluster that was not found on an earlier day has the maximum of its scores of the day. The k
    highest are looked at (of equal scores the lower cluster first), those with a positive row that day are found,
    and found ÷ k is the precision, also on a day of fewer than k clusters.

    Raises Refused where there is no row or a value is missing.
    """
    if k < 1:
        raise Refused(f"precision at k looks at the k highest clusters: expected k of 1 or more, found {k}")
    rows = scored.select("day", "cluster", pl.col("score").cast(pl.Float64), pl.col("label").cast(pl.Boolean))
    if rows.is_empty():
        raise Refused("precision at k needs scored rows, found none; check that the test week has labels")
    missing = rows.null_count().row(0, named=True)
    missing["score"] += int(rows["score"].is_nan().sum())
    if any(missing.values()):
        raise Refused(f"precision at k needs every value, found missing ones: {missing}")

    clusters = rows.group_by("day", "cluster").agg(pl.col("score").max(), pl.col("label").any())
    detected = clusters.head(0).select("cluster")
    days = []
    for day in clusters["day"].unique().sort():
        present = clusters.filter(pl.col("day") == day).join(detected, on="cluster", how="anti")
        highest = present.sort("score", "cluster", descending=[True, False]).head(k)
        found = highest.filter("label").select("cluster")
        detected = pl.concat([detected, found])
        days.append((day, present.height, int(present["label"].sum()), found.height, found.height / k))
    by_day = pl.DataFrame(
        days,
        schema={
            "day": scored.schema["day"],
            "clusters": pl.Int64,
            "positives": pl.Int64,
            "found": pl.Int64,
            "precision": pl.Float64,
        },
        orient="row",
    )
    return PrecisionAtK(k, by_day, int(by_day["found"].sum()) / (k * by_day.height))


def evaluate(scored: pl.DataFrame, k: int = 100) -> Evaluation:
    """The three figures of scored rows with the columns day, cluster, score, label.

    Raises Refused as its parts do.
    """
    return Evaluation(
        rows=scored.height,
        positives=int(scored["label"].sum()),
        auc_roc=auc_roc(scored["label"], scored["score"]),
        average_precision=average_precision(scored["label"], scored["score"]),
        precision_at_k=precision_at_k(scored, k),
    )


def roc_points(label: ArrayLike, score: ArrayLike, max_points: int = 200) -> pl.DataFrame:
    """The ROC curve from (0, 0) to (1, 1): false_positive_rate, true_positive_rate."""
    from sklearn.metrics import roc_curve

    labels, scores = _checked(label, score)
    false_positive_rate, true_positive_rate, _ = roc_curve(labels, scores)
    kept = _spread(false_positive_rate, true_positive_rate, max_points)
    return pl.DataFrame(
        {"false_positive_rate": false_positive_rate[kept], "true_positive_rate": true_positive_rate[kept]}
    )


def precision_recall_points(label: ArrayLike, score: ArrayLike, max_points: int = 300) -> pl.DataFrame:
    """The precision-recall curve by rising recall: recall, precision."""
    from sklearn.metrics import precision_recall_curve

    labels, scores = _checked(label, score)
    precision, recall, _ = precision_recall_curve(labels, scores)
    precision, recall = precision[::-1], recall[::-1]
    kept = _spread(recall, precision, max_points)
    return pl.DataFrame({"recall": recall[kept], "precision": precision[kept]})


def calibration_bins(label: ArrayLike, score: ArrayLike, bins: int = 10) -> pl.DataFrame:
    """Mean score against the rate of positives, over quantile bins that halve towards the top.

    Where positives are rare, bins of equal size would leave all of them in the last one: here the lowest bin
    holds half of the rows, the next a quarter, and so on. Equal scores may fall into two bins.
    Columns, by rising score: rows, positives, mean_score, positive_rate, and the 95 % Wilson interval of the rate,
    rate_low and rate_high.
    """
    labels, scores = _checked(label, score)
    order = np.argsort(scores, kind="stable")
    cuts = [len(order) - len(order) // 2**power for power in range(bins)]
    bounds = list(dict.fromkeys([*cuts, len(order)]))
    lines = []
    for start, end in pairwise(bounds):
        part = order[start:end]
        rows, positives = len(part), int(labels[part].sum())
        low, high = _wilson_interval(positives, rows)
        lines.append((rows, positives, float(scores[part].mean()), positives / rows, low, high))
    names = ["rows", "positives", "mean_score", "positive_rate", "rate_low", "rate_high"]
    return pl.DataFrame(lines, schema=names, orient="row")


def score_histogram(label: ArrayLike, score: ArrayLike, bins: int = 40) -> pl.DataFrame:
    """Rows of each class by score, in bins of equal width in log-odds, where rare positives can be seen.

    Columns: low and high (log-odds of the bin's edges, within ±12), negative and positive (rows).
    """
    labels, scores = _checked(label, score)
    if scores.min() < 0 or scores.max() > 1:
        raise Refused(f"expected scores between 0 and 1, found {scores.min()} to {scores.max()}")
    with np.errstate(divide="ignore"):
        log_odds = np.log(scores) - np.log1p(-scores)
    log_odds = np.clip(log_odds, -_LOG_ODDS_LIMIT, _LOG_ODDS_LIMIT)
    first, last = np.floor(log_odds.min()), np.ceil(log_odds.max())
    edges = np.linspace(first, max(last, first + 1), bins + 1)
    negative, _ = np.histogram(log_odds[~labels], edges)
    positive, _ = np.histogram(log_odds[labels], edges)
    return pl.DataFrame({"low": edges[:-1], "high": edges[1:], "negative": negative, "positive": positive})


def _checked(label: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Labels and scores as arrays of one length, both classes there and nothing missing."""
    labels = np.asarray(label)
    scores = np.asarray(score, dtype=np.float64)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise Refused(
            f"expected one label for each score, found {labels.shape} labels, {scores.shape} scores"
        )
    unknown = ~np.isin(labels.astype(np.float64), (0.0, 1.0))
    if unknown.any() or not np.isfinite(scores).all():
        raise Refused(
            f"expected every label to be true or false and every score to be finite, found "
            f"{int(unknown.sum())} other labels and {int((~np.isfinite(scores)).sum())} other scores "
            f"in {len(scores)} rows; leave unlabelled rows out"
        )
    known = labels.astype(np.bool_)
    positives = int(known.sum())
    if positives in (0, len(known)):
        raise Refused(
            f"expected positive and negative rows, found {positives} positives in {len(known)} rows; "
            f"the figure is not defined on this week"
        )
    return known, scores


def _spread(x: NDArray[np.float64], y: NDArray[np.float64], max_points: int) -> NDArray[np.intp]:
    """Indices of at most `max_points` points spread evenly along a curve, its ends among them."""
    if len(x) <= max_points:
        return np.arange(len(x))
    walked = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    nearest = np.searchsorted(walked, np.linspace(0.0, walked[-1], max_points))
    nearest[0], nearest[-1] = 0, len(x) - 1
    return np.unique(nearest)


def _wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a rate (Wilson, 1927)."""
    rate, square = successes / trials, _Z_95**2 / trials
    middle = rate + square / 2
    half = _Z_95 * (rate * (1 - rate) / trials + square / (4 * trials)) ** 0.5
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))
