"""What the models of a use are measured by: one figure of scored test rows, and what is said of it.

Test rows come as `operations.weekly_tests` gives them: cluster, label, score, and beside them the champion's. A gain is
above 0 where the candidate is better, whichever way the figure itself counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import polars as pl

from my_platform.learning.bootstrap import Interval
from my_platform.learning.thresholds import OperatingCurve


class Measure(Protocol):
    """A figure that models are judged by; `learning.detection` and `learning.regression` have one each.

    Attributes:
        name: the figure in words.
        short: the same as the head of a column.
        gained: what a gain is counted in, in words.
        counted: what the rows are called that the figure rests on.
    """

    @property
    def name(self) -> str: ...

    @property
    def short(self) -> str: ...

    @property
    def gained(self) -> str: ...

    @property
    def counted(self) -> str: ...

    def tells(self, rows: pl.DataFrame) -> bool:
        """Whether the figure is defined on these rows."""
        ...

    def value(self, rows: pl.DataFrame, score: str = "score") -> float:
        """The figure of a column of scores; of rows that tell."""
        ...

    def interval(self, rows: pl.DataFrame) -> Interval:
        """The figure with its 95 % interval; of rows that tell."""
        ...

    def rank(self, value: float) -> float:
        """A number that is the higher the better the figure is."""
        ...

    def gain(self, rows: pl.DataFrame, score: str, other: str) -> float:
        """By how much one column of scores is better than another."""
        ...

    def gain_interval(
        self, weeks: Sequence[pl.DataFrame], score: str, other: str, *, replicates: int, seed: int
    ) -> Interval:
        """The mean gain over weeks whose rows tell, with its interval: clusters are drawn in all weeks at once."""
        ...

    def weight(self, rows: pl.DataFrame) -> int:
        """How many rows there are of those that the figure rests on."""
        ...

    def totals(self, weeks: Iterable[pl.DataFrame]) -> tuple[float, float]:
        """The sum of the scores, and of what was found: a calibrated model has the same."""
        ...

    def said_of_totals(self, expected: float, observed: float) -> str:
        """Both sums in words."""
        ...

    def counts(self, rows: pl.DataFrame) -> Mapping[str, int]:
        """What is told of the rows beside their number."""
        ...

    def least(self, promoted_on: float, drop: float) -> float:
        """The worst value that is still no drop of more than `drop` below the one of the promotion."""
        ...

    def is_worse(self, found: Interval, least: float) -> bool:
        """Whether even the better end of an interval is worse than that."""
        ...

    def operating(
        self, tested: Sequence[pl.DataFrame], looked_at: int
    ) -> tuple[float | None, OperatingCurve | None]:
        """The operating threshold as the median over weeks, and the curve that others are chosen from, if there are any."""
        ...


def figure(measure: Measure, rows: pl.DataFrame, score: str = "score") -> float | None:
    """The figure of scored rows; None where they do not tell."""
    return measure.value(rows, score) if measure.tells(rows) else None
