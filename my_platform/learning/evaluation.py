"""The full evaluation of a candidate: all figures of its test rows, with intervals, slices and costs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from my_platform.learning.bootstrap import Interval, figure_intervals
from my_platform.learning.decisions import CostCurve, Costs, cost_curve, operating_threshold
from my_platform.learning.metrics import Evaluation, evaluate
from my_platform.learning.slices import Slice, slice_figures


@dataclass(frozen=True)
class FullEvaluation:
    """All that is measured on the test rows of one week.

    Attributes:
        intervals: by figure, as `bootstrap.figure_intervals` gives them.
        threshold: the score from which on k clusters a day are looked at.
    """

    scored: pl.DataFrame
    figures: Evaluation
    intervals: Mapping[str, Interval]
    threshold: float
    costs: CostCurve
    slices: Sequence[Slice]

    @property
    def expected(self) -> float:
        """The number of positives that the scores expect; summed exactly, whatever the order of rows."""
        return math.fsum(self.scored["score"])

    @property
    def metrics(self) -> dict[str, float]:
        """The three figures by name."""
        return {
            "auc_roc": self.figures.auc_roc,
            "average_precision": self.figures.average_precision,
            f"precision_at_{self.figures.precision_at_k.k}": self.figures.precision_at_k.mean,
        }

    def as_json(self) -> dict[str, Any]:
        """The figures as they stand in `metrics.json`."""
        k, costs = self.figures.precision_at_k.k, self.costs
        intervals = {
            f"precision_at_{k}" if name == "precision_at_k" else name: found.as_json()
            for name, found in self.intervals.items()
            if name != "calibration"
        }
        return {
            "metrics": self.metrics,
            "intervals": intervals,
            "calibration": {
                "expected": self.expected,
                "positives": self.figures.positives,
                **self.intervals["calibration"].as_json(),
            },
            "operating_threshold": {"looked_at_a_day": k, "score": self.threshold},
            "costs": {
                "check": costs.costs.check,
                "miss": costs.costs.miss,
                "alarms_a_day": costs.alarms_a_day,
                "cost_a_day": costs.cost_a_day,
                "cost_a_day_of_nothing": costs.cost_a_day_of_nothing,
            },
            "slices": [part.as_json() for part in self.slices],
        }


@dataclass(frozen=True)
class WeekFigures:
    """A week's figures, to be set beside those of others."""

    week: str
    average_precision: Interval
    auc_roc: Interval
    precision_at_k: Interval
    calibration: Interval

    def as_json(self) -> dict[str, Any]:
        return {
            "week": self.week,
            "average_precision": self.average_precision.as_json(),
            "auc_roc": self.auc_roc.as_json(),
            "precision_at_k": self.precision_at_k.as_json(),
            "calibration": self.calibration.as_json(),
        }


def evaluate_fully(scored: pl.DataFrame, k: int, *, slices: Sequence[str], costs: Costs) -> FullEvaluation:
    """All figures of scored rows with the columns day, cluster, score, label and those of the slices.

    Raises Refused where a value is missing or one of the classes has no row.
    """
    figures = evaluate(scored, k)
    days = scored["day"].n_unique()
    return FullEvaluation(
        scored,
        figures,
        figure_intervals(scored, k),
        operating_threshold(scored, k),
        cost_curve(scored["label"], scored["score"], costs, days),
        slice_figures(scored, slices),
    )


def week_figures(week: str, scored: pl.DataFrame, k: int) -> WeekFigures:
    """The figures of a week's scored rows (day, cluster, score, label)."""
    return WeekFigures(week, **figure_intervals(scored, k, replicates=200))
