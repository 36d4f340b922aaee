"""Figures by slice: how a score does on parts of the test rows that people ask about."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from my_platform.learning.bootstrap import Interval, figure_intervals


@dataclass(frozen=True)
class Slice:
    """The figures of the rows that have one value in one column.

    `average_precision` is None where all rows are positive or all are negative, `calibration` (the sum of
    the scores over the positives) where there is no positive one, and where rows are `shared` with other slices.
    """

    column: str
    value: str
    rows: int
    positives: int
    expected: float
    average_precision: Interval | None
    shared: bool = False

    @property
    def name(self) -> str:
        """The column in plain words, and the value."""
        return f"{self.column.replace('_', ' ').lower()}: {self.value}"

    @property
    def calibration(self) -> float | None:
        return self.expected / self.positives if self.positives and not self.shared else None

    def as_json(self) -> dict[str, Any]:
        return {
            "slice": self.column,
            "value": self.value,
            "rows": self.rows,
            "positives": self.positives,
            "average_precision": self.average_precision.as_json() if self.average_precision else None,
            "calibration": self.calibration,
        }


def slice_figures(scored: pl.DataFrame, columns: Sequence[str], *, replicates: int = 200) -> list[Slice]:
    """The slices of scored rows (day, cluster, score, label and the given columns), by column and value."""
    return [
        _slice(rows, column, value, replicates)
        for column in columns
        for value, rows in slices_of(scored, column)
    ]


def slices_of(rows: pl.DataFrame, column: str) -> list[tuple[str, pl.DataFrame]]:
    """The rows of each value of a column, in the order of the values; flags read yes and no.

    Rows without a value belong to every slice: a kind of positives is told from all negatives. Where there is but
    one kind its slice is all rows, and none is told.
    """
    found, member = rows.get_column(column), pl.col(column)
    values = found.drop_nulls().unique().sort()
    if found.has_nulls() and len(values) == 1:
        return []
    return [(in_words(value), rows.filter((member == value) | member.is_null())) for value in values]


def in_words(value: object) -> str:
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _slice(rows: pl.DataFrame, column: str, value: str, replicates: int) -> Slice:
    positives = int(rows["label"].sum())
    measured = 0 < positives < rows.height
    return Slice(
        column,
        value,
        rows.height,
        positives,
        math.fsum(rows["score"]),
        figure_intervals(rows, 1, replicates=replicates)["average_precision"] if measured else None,
        shared=rows.get_column(column).has_nulls(),
    )
