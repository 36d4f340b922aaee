"""How the scoring service of card fraud did, week by week; the partition is the Wednesday on which the week begins."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import date
from typing import Any

import polars as pl

from my_platform.domains.fraud.parameters import WORDS
from my_platform.domains.fraud.scored_requests import VALIDATED
from my_platform.incremental.declare import EXPECTED, Asset, Batch, Grain, Produced, Publication, Read
from my_platform.serving import monitor

_OF_LOG = (
    "TRANSACTION_ID",
    "TX_DATETIME",
    "MODEL",
    "WEEK",
    "BUNDLE",
    "PROBABILITY",
    "FLAGGED",
    "DEGRADED",
    "LATENCY_US",
)
# A label that comes later than this after the week no longer tells of it; as far back as scores are compared.
LABELS_DAYS, DAYS_BEFORE = 30, 28
_LIMITS = monitor.Limits()
_LABELLED = ("labelled", "positives", "expected", "found", "alarms", "average_precision")
_DRIFT = ("drifted_columns", "worst_column")


def serving_monitor(
    served: pl.DataFrame, before: pl.Series, reports: pl.DataFrame, drifts: pl.DataFrame
) -> Produced:
    """What was scored, by day and model: drift of scores and features, latency, and the figures that labels give."""
    labels = (
        reports.sort("REPORTED_AT", "IS_FRAUD")
        .group_by("TRANSACTION_ID")
        .agg(label=pl.col("IS_FRAUD").last())
    )
    found = monitor.monitored(served, before, labels, drifts, "TRANSACTION_ID", "TX_DATETIME")
    answers = monitor.answers(found, _LIMITS, WORDS)
    return Produced(found, metadata={"rows_scored": served.height}, checks=answers)


def compute(batch: Batch) -> Iterator[tuple[str, Produced | Exception]]:
    for key in batch.keys:
        try:
            yield (
                key,
                serving_monitor(
                    _all(batch, "served", key),
                    _all(batch, "before", key)["PROBABILITY"],
                    _all(batch, "reports", key),
                    _drifts(batch.inputs("checks", key)),
                ),
            )
        except EXPECTED as error:
            yield key, error


def _all(batch: Batch, read: str, key: str) -> pl.DataFrame:
    return pl.concat([batch.empty(read), *batch.inputs(read, key).values()])


def _drifts(checks: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """What the checks of the log's days say of drift, as far as there was history to judge by."""
    found = [
        each.filter((pl.col("check") == "drift") & (pl.col("upper") > 0)).select(
            "column", "value", "upper", day=pl.lit(date.fromisoformat(key))
        )
        for key, each in checks.items()
    ]
    none = {"column": pl.String(), "value": pl.Float64(), "upper": pl.Float64(), "day": pl.Date()}
    return pl.concat([pl.DataFrame(schema=none), *found])


def monitor_asset(publish: Callable[[Publication], Mapping[str, Any]]) -> Asset:
    """The weekly monitor over the table of the log."""
    of_log = tuple((VALIDATED, name) for name in _OF_LOG)
    labels = (("validated/fraud_reports", "TRANSACTION_ID"), ("validated/fraud_reports", "IS_FRAUD"))
    drifts = tuple(("checks/scored_requests", name) for name in ("column", "value", "upper"))
    more = {**dict.fromkeys(_LABELLED, labels), **dict.fromkeys(_DRIFT, drifts)}
    return Asset(
        name="serving_monitor",
        grain=Grain.WEEK,
        reads={
            "served": Read(VALIDATED, 0, 6, "pass", 1, _OF_LOG),
            "before": Read(VALIDATED, -DAYS_BEFORE, -1, "optional", 0, ("PROBABILITY",)),
            "reports": Read("validated/fraud_reports", 0, 6 + LABELS_DAYS, "optional", 0),
            "checks": Read("checks/scored_requests", 0, 6, "optional", 0),
        },
        compute=compute,
        code=(compute,),
        parameters={"limits": asdict(_LIMITS)},
        description="How the service did, by day and model: scores, drift, latency, and the figures that labels give.",
        kinds=("polars",),
        group="serving",
        columns=monitor.COLUMNS,
        lineage={name: (*of_log, *more.get(name, ())) for name in monitor.COLUMNS},
        own_checks=monitor.checks(WORDS),
        owners=("team:fraud-models",),
        publish=publish,
    )
