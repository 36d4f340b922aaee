"""The measure of models that look for a few rows among many: average precision, and who is looked at."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import polars as pl

from my_platform.learning.bootstrap import Interval, PairedWeek, difference_interval, figure_intervals
from my_platform.learning.decisions import operating_threshold
from my_platform.learning.metrics import average_precision
from my_platform.learning.thresholds import OperatingCurve, operating_curve

_REPLICATES = 200


@dataclass(frozen=True)
class AveragePrecision:
    """How well scores rank the few rows that are looked for; a label is true of those."""

    name: str = "average precision"
    short: str = "AP"
    gained: str = "average precision"
    counted: str = "positives"

    def tells(self, rows: pl.DataFrame) -> bool:
        """Whether rows of both labels are there."""
        return bool(rows["label"].any() and not rows["label"].all())

    def value(self, rows: pl.DataFrame, score: str = "score") -> float:
        return average_precision(rows["label"], rows[score])

    def interval(self, rows: pl.DataFrame) -> Interval:
        return figure_intervals(rows, 1, replicates=_REPLICATES)["average_precision"]

    def rank(self, value: float) -> float:
        return value

    def gain(self, rows: pl.DataFrame, score: str, other: str) -> float:
        return self.value(rows, score) - self.value(rows, other)

    def gain_interval(
        self, weeks: Sequence[pl.DataFrame], score: str, other: str, *, replicates: int, seed: int
    ) -> Interval:
        pairs = [PairedWeek(rows["label"], rows["cluster"], rows[score], rows[other]) for rows in weeks]
        return difference_interval(pairs, replicates=replicates, seed=seed)

    def weight(self, rows: pl.DataFrame) -> int:
        return int(rows["label"].sum())

    def totals(self, weeks: Iterable[pl.DataFrame]) -> tuple[float, int]:
        tested = list(weeks)
        expected = math.fsum(score for rows in tested for score in rows["score"])
        return expected, sum(self.weight(rows) for rows in tested)

    def said_of_totals(self, expected: float, observed: float) -> str:
        if not observed:
            return f"no {self.counted} in the weeks it was tested on"
        return (
            f"its scores expect {expected:,.1f} {self.counted} where {observed:,} were found, "
            f"{expected / observed:.3f} times as many"
        )

    def counts(self, rows: pl.DataFrame) -> Mapping[str, int]:
        return {self.counted: self.weight(rows)}

    def least(self, promoted_on: float, drop: float) -> float:
        return promoted_on - drop

    def is_worse(self, found: Interval, least: float) -> bool:
        return found.high < least

    def operating(
        self, tested: Sequence[pl.DataFrame], looked_at: int
    ) -> tuple[float | None, OperatingCurve | None]:
        thresholds = [operating_threshold(rows, looked_at) for rows in tested]
        return (median(thresholds) if thresholds else None), operating_curve(tested)


AVERAGE_PRECISION = AveragePrecision()
