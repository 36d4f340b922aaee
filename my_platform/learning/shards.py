"""Training sets larger than memory, as parts of Parquet files that a net is fitted on one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray


@dataclass(frozen=True)
class ParquetShard:
    """Rows of some days of Parquet files; only their columns and row groups are read.

    Attributes:
        files: paths or URLs, with a digest of each: a shard of other content must have another name.
        features: columns, numeric; nulls are missing values.
        label: a column of true and false; rows without a label are left out.
        time: a column of dates or datetimes.
        first, end: the days [first, end).
    """

    files: tuple[tuple[str, str], ...]
    features: tuple[str, ...]
    label: str
    time: str
    first: date
    end: date

    @property
    def name(self) -> str:
        return repr((self.files, self.features, self.label, self.time, self.first, self.end))

    def read(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Features (rows × features, NaN where missing) and labels, in the order of the files."""
        found = (
            pl.scan_parquet([path for path, _ in self.files])
            .filter(
                pl.col(self.time) >= self.first,
                pl.col(self.time) < self.end,
                pl.col(self.label).is_not_null(),
            )
            .select(pl.col(self.features).cast(pl.Float32).fill_null(float("nan")), self.label)
            .collect()
        )
        return found.select(self.features).to_numpy(), found[self.label].to_numpy()


def shards_by_day(whole: ParquetShard, days: int) -> Sequence[ParquetShard]:
    """The shards of a span of days, each of at most so many."""
    starts = range(0, (whole.end - whole.first).days, days)
    return [
        ParquetShard(
            whole.files,
            whole.features,
            whole.label,
            whole.time,
            whole.first + timedelta(start),
            min(whole.end, whole.first + timedelta(start + days)),
        )
        for start in starts
    ]
