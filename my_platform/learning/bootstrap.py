"""Intervals by drawing clusters: how far a figure may be off because these clusters were tested and no others.

Rows of one cluster (one customer) hang together, so whole clusters are drawn with replacement, as often as there
are clusters, and each figure is computed anew with every row counted as often as its cluster was drawn. The
interval holds the middle 95 % of what comes out (the cluster bootstrap with percentiles; Davison and Hinkley,
Bootstrap Methods and Their Application, 1997, chapters 3 and 5). Seeded: the same arguments give the same
interval.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from my_platform.errors import Refused

REPLICATES = 400
SEED = 1
_LOW, _HIGH = 0.025, 0.975

Counts = NDArray[np.int64]
"""How often each cluster is counted."""


@dataclass(frozen=True)
class Interval:
    """A figure and the 95 % interval around it."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class PairedWeek:
    """One week's test rows with the scores of two models: arrays of one length."""

    label: ArrayLike
    cluster: ArrayLike
    challenger: ArrayLike
    champion: ArrayLike


class Ranking:
    """Scored rows in falling order of their score, ready to be measured with any count of each cluster.

    Args:
        positive: true or false for each row.
        score: the higher, the more likely positive.
        cluster: the number of each row's cluster, from 0 on.
    """

    def __init__(
        self, positive: NDArray[np.bool_], score: NDArray[np.float64], cluster: NDArray[np.intp]
    ) -> None:
        order = np.argsort(-score, kind="stable")
        falling, ranked = score[order], positive[order]
        self._cluster = cluster[order]
        starts = np.flatnonzero(np.concatenate([[True], falling[1:] != falling[:-1]]))
        ends = np.append(starts[1:], len(order))
        hit = np.add.reduceat(ranked.astype(np.int64), starts) > 0
        first, end = starts[hit], ends[hit]
        # Only the rows that share a score with a positive one, and the stretches between them, matter.
        bounds = np.unique(np.concatenate([[0], first, end]))
        self._bounds = bounds[bounds < len(order)]
        self._group = np.searchsorted(self._bounds, first)
        positives = np.flatnonzero(ranked)
        self._positive_cluster = self._cluster[positives]
        self._positive_bounds = np.searchsorted(positives, first)

    def measure(self, counts: Counts) -> tuple[float, float]:
        """Average precision and area under the ROC curve; not a number where one of the classes has no row."""
        stretch = np.add.reduceat(counts[self._cluster], self._bounds)
        through = np.cumsum(stretch)
        positive = np.add.reduceat(counts[self._positive_cluster], self._positive_bounds)
        positives, rows = int(positive.sum()), int(through[-1])
        if positives in (0, rows):
            return float("nan"), float("nan")
        found, looked_at, group = np.cumsum(positive), through[self._group], stretch[self._group]
        precision = found / np.maximum(looked_at, 1)
        negatives = rows - positives
        below = negatives - (looked_at - found) + 0.5 * (group - positive)
        return (
            float((positive * precision).sum() / positives),
            float((positive * below).sum() / (positives * negatives)),
        )


def resampled(clusters: int, replicates: int, seed: int) -> Iterator[Counts]:
    """How often each cluster is drawn, replicate by replicate."""
    random = np.random.Generator(np.random.PCG64(seed))
    for _ in range(replicates):
        yield np.bincount(random.integers(0, clusters, clusters), minlength=clusters)


def figure_intervals(
    scored: pl.DataFrame, k: int, *, replicates: int = REPLICATES, seed: int = SEED
) -> Mapping[str, Interval]:
    """The figures of scored rows (day, cluster, score, label) with their intervals.

    Keys: average_precision, auc_roc, precision_at_k and calibration, the sum of the scores over the number of
    positives. `metrics.evaluate` checks the rows; this expects them checked.

    Raises Refused where one of the classes has no row.
    """
    label, score = scored["label"].to_numpy(), scored["score"].to_numpy()
    ids, cluster = np.unique(scored["cluster"].to_numpy(), return_inverse=True)
    ranking, days = Ranking(label, score, cluster), _days(scored, ids)
    # Summed by cluster once, so that a replicate is a product of short vectors.
    expected = np.bincount(cluster, weights=score, minlength=len(ids))
    observed = np.bincount(cluster, weights=label, minlength=len(ids))

    def figures(counts: Counts) -> tuple[float, ...]:
        average_precision, auc_roc = ranking.measure(counts)
        positives = float(counts @ observed)
        ratio = float(counts @ expected) / positives if positives else float("nan")
        return average_precision, auc_roc, _precision_at_k(days, counts, k), ratio

    names = ("average_precision", "auc_roc", "precision_at_k", "calibration")
    drawn = np.array([figures(counts) for counts in resampled(len(ids), replicates, seed)])
    whole = figures(np.ones(len(ids), dtype=np.int64))
    return {name: interval_of(whole[at], drawn[:, at]) for at, name in enumerate(names)}


def difference_interval(
    weeks: Sequence[PairedWeek], *, replicates: int = REPLICATES, seed: int = SEED
) -> Interval:
    """By how much the challenger's average precision exceeds the champion's, as a mean over weeks.

    Both are measured on the same rows, and a cluster is drawn in all of its weeks at once, so that what both
    models find hard cancels out.

    Raises Refused where there is no week, or one of the classes has no row in a week.
    """
    if not weeks:
        raise Refused("a comparison needs at least one week that both models were tested on, found none")
    ids = np.unique(np.concatenate([np.asarray(week.cluster) for week in weeks]))
    pairs = []
    for week in weeks:
        cluster = np.searchsorted(ids, np.asarray(week.cluster))
        positive = np.asarray(week.label, dtype=np.bool_)
        pairs.append(
            [
                Ranking(positive, np.asarray(score, dtype=np.float64), cluster)
                for score in (week.challenger, week.champion)
            ]
        )

    def difference(counts: Counts) -> float:
        gains = [ours.measure(counts)[0] - theirs.measure(counts)[0] for ours, theirs in pairs]
        return float(np.mean(gains))

    drawn = np.array([difference(counts) for counts in resampled(len(ids), replicates, seed)])
    return interval_of(difference(np.ones(len(ids), dtype=np.int64)), drawn)


@dataclass(frozen=True)
class _Day:
    """The clusters of a day, the highest score first, and which of them have a positive row."""

    cluster: NDArray[np.intp]
    positive: NDArray[np.bool_]


def _days(scored: pl.DataFrame, ids: NDArray[np.int64]) -> list[_Day]:
    clusters = scored.group_by("day", "cluster").agg(pl.col("score").max(), pl.col("label").any())
    ordered = clusters.sort("day", "score", "cluster", descending=[False, True, False])
    return [
        _Day(np.searchsorted(ids, day["cluster"].to_numpy()), day["label"].to_numpy())
        for day in ordered.partition_by("day", maintain_order=True)
    ]


def _precision_at_k(days: Sequence[_Day], counts: Counts, k: int) -> float:
    """`metrics.precision_at_k` where each cluster stands for as many as it was drawn."""
    detected = np.zeros(len(counts), dtype=np.bool_)
    found = 0
    for day in days:
        present = np.where(detected[day.cluster], 0, counts[day.cluster])
        looked_at = np.clip(k - (np.cumsum(present) - present), 0, present)
        hit = (looked_at > 0) & day.positive
        found += int(looked_at[hit].sum())
        detected[day.cluster[hit]] = True
    return found / (k * len(days))


def interval_of(value: float, drawn: NDArray[np.float64]) -> Interval:
    """A figure with the interval of the replicates in which it is defined.

    Raises Refused where it is not defined.
    """
    defined = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not len(defined):
        raise Refused("expected positive and negative rows in the test rows, found none of one of them")
    low, high = np.quantile(defined, [_LOW, _HIGH])
    return Interval(value, float(low), float(high))
