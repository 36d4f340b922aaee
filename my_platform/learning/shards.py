"""Training sets that need not fit into memory: labelled rows of which days are read by themselves."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from my_platform.learning.nets.sampling import last_rows


@dataclass(frozen=True)
class LabelledRows:
    """Rows that a model is fitted on, in memory or as a scan of Parquet files.

    Attributes:
        rows: of a scan, only the columns and row groups are read that are asked for.
        version: of their content; rows of another one must have another.
        features: columns, numeric; nulls are missing values.
        label: a column of true and false; rows without a label are left out of shards.
        time: a column of dates or datetimes.
    """

    rows: pl.LazyFrame
    version: str
    features: tuple[str, ...]
    label: str
    time: str

    @property
    def height(self) -> int:
        """The number of rows."""
        return int(self.rows.select(pl.len()).collect().item())

    def shards(self, share: float, most_rows: int) -> "tuple[list[DaysShard], DaysShard]":
        """The rows to fit on, as shards of whole days, and the last days by which a fit is stopped.

        Args:
            share: of the rows labelled 1, what the last days hold at least.
            most_rows: of a shard of several days.

        Raises:
            Refused: one of the labels would have no row to fit on, or to stop by.
        """
        known = self.rows.select(day=pl.col(self.time).dt.date(), label=self.label).drop_nulls().collect()
        numbers = known["day"].to_physical().to_numpy()
        held_out = known.filter(pl.Series(last_rows(numbers, known["label"].to_numpy(), share)))["day"]
        first, end = _span(held_out)
        counts = known.filter(pl.col("day") < first).group_by("day").len().sort("day")
        starts: list[date] = []
        rows = 0
        for day, count in counts.iter_rows():
            rows += count
            if not starts or rows > most_rows:
                starts.append(day)
                rows = count
        days = zip(starts, [*starts[1:], first], strict=True)
        return [DaysShard(self, *span) for span in days], DaysShard(self, first, end)


@dataclass(frozen=True)
class DaysShard:
    """The labelled rows of the days [first, end), which are read anew each time."""

    of: LabelledRows
    first: date
    end: date

    @property
    def name(self) -> str:
        """Tells it from others, and its content too."""
        return repr((self.of.version, self.of.features, self.of.label, self.of.time, self.first, self.end))

    def read(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Features (rows × features, NaN where missing) and labels, in the order of the rows."""
        # Of the column's own type, so that row groups of other days are told by their statistics and not read.
        on_days = self.of.rows.collect_schema()[self.of.time] == pl.Date
        first, end = (day if on_days else datetime.combine(day, time()) for day in (self.first, self.end))
        features = pl.col(self.of.features).cast(pl.Float32).fill_null(float("nan"))
        found = (
            self.of.rows.filter(
                pl.col(self.of.time) >= first,
                pl.col(self.of.time) < end,
                pl.col(self.of.label).is_not_null(),
            )
            .select(features, self.of.label)
            .collect()
        )
        return found.select(self.of.features).to_numpy(), found[self.of.label].to_numpy()


def _span(days: pl.Series) -> tuple[date, date]:
    """The first of some days, and the day after the last."""
    first, last = days.min(), days.max()
    assert isinstance(first, date)
    assert isinstance(last, date)
    return first, last + timedelta(days=1)
