"""How a service did, by day and model: scores, what it flagged, latency, drift, and what labels say since.

Labels arrive late: a week is told again whenever one comes that is about its rows. Shares and sums are exact, so that
the same rows give the same figures however they are read.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from my_platform.incremental.checks import WARN, Check, CheckResult
from my_platform.incremental.declare import Column
from my_platform.learning.health import score_classes
from my_platform.learning.metrics import average_precision
from my_platform.learning.words import WORDS, Words
from my_platform.quality.drift import chance_index, stability_index

COLUMNS = {
    "day": Column(pl.Date(), "the UTC day on which the rows happened"),
    "model": Column(pl.String(), "the model that scored them"),
    "week": Column(pl.String(), "the week of that model"),
    "bundle": Column(pl.String(), "digest of its bundle"),
    "rows": Column(pl.Int64(), "rows that were scored"),
    "flagged": Column(pl.Int64(), "rows at or above the threshold"),
    "degraded": Column(pl.Int64(), "rows whose features the service doubted"),
    "mean_score": Column(pl.Float64(), "mean probability"),
    "score_index": Column(
        pl.Float64(),
        "stability index of the scores over tenths of those before, what chance gives taken off; or null",
    ),
    "drifted_columns": Column(pl.Int64(), "watched columns of the day beyond their limit of drift"),
    "worst_column": Column(
        pl.String(), "the column with the most drift for its limit; empty where none is judged"
    ),
    "p50_us": Column(pl.Int64(), "median latency, microseconds"),
    "p99_us": Column(pl.Int64(), "latency that 99 of 100 rows stay within, microseconds"),
    "labelled": Column(pl.Int64(), "rows whose label has come"),
    "positives": Column(pl.Int64(), "positives among them"),
    "expected": Column(pl.Float64(), "sum of their probabilities"),
    "found": Column(pl.Int64(), "positives among them that were flagged"),
    "alarms": Column(pl.Int64(), "labelled rows that were flagged"),
    "average_precision": Column(pl.Float64(), "over the labelled rows; null where one class is missing"),
}


@dataclass(frozen=True)
class Limits:
    """When a check of the monitor fails.

    Attributes:
        score_index: stability index of a day's scores beyond what chance gives.
        degraded_share: rows whose features the service doubted.
        spreads: standard deviations by which positives may differ from the sum of the scores, beyond ``miscalibrated``.
        miscalibrated: as a share of that sum.
        fewest_rows: a day with fewer rows tells nothing.
    """

    score_index: float = 0.25
    degraded_share: float = 0.01
    spreads: float = 4.0
    miscalibrated: float = 0.25
    fewest_rows: int = 100


def checks(words: Words = WORDS) -> tuple[Check, ...]:
    """What the figures of a week are asked."""
    about_as_many = f"There are about as many {words.positives} among labelled rows as their scores say."
    return (
        Check("served_scores", "The scores of each day are spread as those of the days before.", WARN),
        Check("served_labels", about_as_many, WARN),
        Check("served_whole", "Hardly any row is scored with features that the service doubts.", WARN),
    )


def monitored(
    served: pl.DataFrame, before: pl.Series, labels: pl.DataFrame, drifts: pl.DataFrame, key: str, time: str
) -> pl.DataFrame:
    """The figures by day and bundle, with ``COLUMNS``.

    Args:
        served: the rows of the log, without their features.
        before: the probabilities of the days before.
        labels: key and `label`, one row each, as far as known.
        drifts: day, column, value and limit of each judged statistic.
    """
    rows = served.with_columns(day=pl.col(time).dt.date()).join(labels, on=key, how="left")
    found = []
    for (day, model, week, bundle), part in rows.group_by(
        "day", "MODEL", "WEEK", "BUNDLE", maintain_order=True
    ):
        of_day = drifts.filter(pl.col("day") == day)
        found.append(
            {
                "day": day,
                "model": model,
                "week": week,
                "bundle": bundle,
                **_of_scores(part, before),
                **_of_drift(of_day),
                **_of_labels(part.filter(pl.col("label").is_not_null())),
            }
        )
    table = pl.DataFrame(found, schema={name: column.type for name, column in COLUMNS.items()})
    return table.sort("day", "bundle")


def answers(table: pl.DataFrame, limits: Limits, words: Words = WORDS) -> list[CheckResult]:
    """How the figures of a week answer ``checks``."""
    told = table.filter(pl.col("rows") >= limits.fewest_rows)
    drifted = told.filter(pl.col("score_index") > limits.score_index)
    doubted = told.filter(pl.col("degraded") > limits.degraded_share * pl.col("rows"))
    off = [row for row in told.iter_rows(named=True) if _is_off(row, limits)]
    return [
        _answer("served_scores", drifted.to_dicts(), "score_index", told.height),
        _answer("served_labels", off, "positives", told.height, words.positives),
        _answer("served_whole", doubted.to_dicts(), "degraded", told.height),
    ]


def _answer(
    check: str, failed: Sequence[Mapping[str, Any]], measure: str, judged: int, called: str = ""
) -> CheckResult:
    said = called or measure
    worst = [f"{row['day']} {row['model']} {row['week']}: {said} {row[measure]:g}" for row in failed]
    return CheckResult(
        check, not failed, {"days_judged": judged, "days_failed": len(failed)}, "; ".join(worst)
    )


def _is_off(row: Mapping[str, Any], limits: Limits) -> bool:
    allowed = limits.spreads * math.sqrt(row["expected"] + 1) + limits.miscalibrated * row["expected"]
    return bool(abs(row["positives"] - row["expected"]) > allowed)


def _of_scores(part: pl.DataFrame, before: pl.Series) -> dict[str, Any]:
    scores, latency = part["PROBABILITY"], part["LATENCY_US"].sort()
    index = None
    if before.len():
        shares, wanted = score_classes(before, scores)
        found = stability_index(shares, wanted, part.height) - chance_index(part.height)
        index = max(0.0, found)
    return {
        "rows": part.height,
        "flagged": int(part["FLAGGED"].sum()),
        "degraded": part.height - part["DEGRADED"].null_count(),
        "mean_score": math.fsum(scores) / part.height,
        "score_index": index,
        "p50_us": latency[(part.height - 1) // 2],
        "p99_us": latency[math.ceil(0.99 * part.height) - 1],
    }


def _of_drift(judged: pl.DataFrame) -> dict[str, Any]:
    shares = judged.with_columns(share=pl.col("value") / pl.col("upper")).sort("share", descending=True)
    over = shares.filter(pl.col("share") > 1)["column"].n_unique() if shares.height else 0
    return {"drifted_columns": over, "worst_column": shares["column"][0] if shares.height else ""}


def _of_labels(part: pl.DataFrame) -> dict[str, Any]:
    positives = int(part["label"].sum())
    both = 0 < positives < part.height
    return {
        "labelled": part.height,
        "positives": positives,
        "expected": math.fsum(part["PROBABILITY"]),
        "found": int((part["label"] & part["FLAGGED"]).sum()),
        "alarms": int(part["FLAGGED"].sum()),
        "average_precision": average_precision(part["label"], part["PROBABILITY"]) if both else None,
    }
