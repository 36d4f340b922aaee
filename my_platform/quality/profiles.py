"""Profiles: what one partition of a table looks like, column by column, as a small table of its own.

A profile is exact and small: counts, quantiles that are values of the column, and the values that many rows
share. It is what drift, bands and the data-quality page are made from, so that none of them reads a table again.
A correction of a few values mostly leaves it as it was, and then nothing that reads it is computed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from my_platform.incremental.bucketed import input_bytes
from my_platform.incremental.declare import EXPECTED, Asset, Batch, Column, Produced, ordinal, same
from my_platform.incremental.memory import table_bytes
from my_platform.quality.drift import Sketch

PREFIX = "profiles/"
SKETCH_POINTS = 101
# A value that fewer rows share is not named.
LEAST_NAMED_SHARE = 0.005
_MOST_NAMED = 20
_SECONDS_A_DAY = 86_400
# What a profile takes: the table and copies of one column; and of a column by itself, sorted and counted.
_PROFILED_BY = 2.0
_COLUMN_PROFILED_BY = 5.0

COLUMNS = {
    "column": Column(pl.String(), "the column that the row is about"),
    "type": Column(pl.String(), "its type"),
    "rows": Column(pl.Int64(), "rows of the partition; the same in every row"),
    "nulls": Column(pl.Int64(), "rows without a value"),
    "not_finite": Column(pl.Int64(), "rows whose value is NaN or infinite; null for other types than floats"),
    "distinct": Column(pl.Int64(), "different values; null for floats and times, where it tells nothing"),
    "quantiles": Column(
        pl.List(pl.Float64()),
        f"{SKETCH_POINTS} values at even probabilities, from the least to the greatest; times as seconds since the "
        "partition's day began; empty for text and flags",
    ),
    "values": Column(
        pl.List(pl.String()),
        f"values of at least {LEAST_NAMED_SHARE:.1%} of the rows, the most frequent first",
    ),
    "counts": Column(pl.List(pl.Int64()), "rows of each of these values"),
}


@dataclass(frozen=True)
class ColumnProfile:
    """What a profile says of one column; see ``COLUMNS``."""

    name: str
    type: str
    rows: int
    nulls: int
    not_finite: int
    distinct: int | None
    sketch: Sketch
    shares: Mapping[str, float]

    @property
    def filled(self) -> int:
        """Rows with a value that can be compared."""
        return self.rows - self.nulls - self.not_finite


@dataclass(frozen=True)
class Profile:
    """A profile as it is read."""

    rows: int
    columns: Mapping[str, ColumnProfile]


def profile_table(validated: Asset, **catalogue: Any) -> Asset:
    """The profile of each partition of a validated table, below ``profiles/``."""

    def compute(batch: Batch) -> Iterator[tuple[str, Produced | Exception]]:
        for key in batch.keys:
            try:
                yield key, Produced(_profile(batch, key))
            except EXPECTED as error:
                yield key, error

    return Asset(
        name=f"{PREFIX}{table_name(validated.name)}",
        grain=validated.grain,
        reads={"rows": same(validated.name)},
        compute=compute,
        code=(_profile,),
        columns=COLUMNS,
        **{
            "group": "quality",
            "description": f"What each partition of {validated.name} looks like, column by column.",
            **catalogue,
        },
    )


def _profile(batch: Batch, key: str) -> pl.DataFrame:
    """The profile of a partition, made column by column where it does not fit into memory."""
    size = input_bytes(batch, ["rows"], key)
    if batch.memory.fits(size * _PROFILED_BY):
        (table,) = batch.inputs("rows", key).values()
        return profile_of(table, ordinal(key))
    rows, types = sum(batch.row_counts("rows", key).values()), batch.types("rows")
    widest = max(table_bytes(rows, {name: kind}) for name, kind in types.items())
    batch.memory.require(batch.asset, key, widest * _COLUMN_PROFILED_BY, "for its widest column")
    (file,) = batch.files("rows", key).values()
    columns = (pl.read_parquet(file, columns=[name], glob=False, hive_partitioning=False) for name in types)
    return pl.concat([profile_of(column, ordinal(key)) for column in columns])


def table_name(asset: str) -> str:
    """The table of an asset: ``orders`` of ``validated/orders``."""
    return asset.rpartition("/")[2]


def profile_of(table: pl.DataFrame, day: int) -> pl.DataFrame:
    """One row for each column of a table, with the columns ``COLUMNS``.

    Args:
        day: the partition's day since 1970, from which times are counted.
    """
    rows = [{**_described(column, day), "rows": table.height} for column in table]
    return pl.DataFrame(rows, schema={name: column.type for name, column in COLUMNS.items()}, orient="row")


def _described(column: pl.Series, day: int) -> dict[str, Any]:
    numbers = _numbers(column, day)
    values, counts = _named_values(column)
    return {
        "column": column.name,
        "type": str(column.dtype),
        "nulls": column.null_count(),
        "not_finite": int((~column.is_finite()).sum()) if column.dtype.is_float() else None,
        "distinct": _distinct(column),
        "quantiles": [] if numbers is None else _quantiles(numbers),
        "values": values,
        "counts": counts,
    }


def _numbers(column: pl.Series, day: int) -> pl.Series | None:
    """The values of a column as floats, without those that have no order; None for text and flags."""
    column = column.drop_nulls()
    if isinstance(column.dtype, pl.Datetime):
        return (column.dt.epoch("s") - day * _SECONDS_A_DAY).cast(pl.Float64)
    if column.dtype == pl.Date:
        return (column.to_physical() - day).cast(pl.Float64)
    if column.dtype.is_float():
        return column.filter(column.is_finite()).cast(pl.Float64)
    return column.cast(pl.Float64) if column.dtype.is_integer() or column.dtype.is_decimal() else None


def _quantiles(numbers: pl.Series) -> list[float]:
    """Values at even ranks of the sorted column, from the first to the last."""
    if not len(numbers):
        return []
    last, steps = len(numbers) - 1, SKETCH_POINTS - 1
    ranks = [(2 * step * last + steps) // (2 * steps) for step in range(SKETCH_POINTS)]
    # Adding zero makes one of the two zeros.
    return [value + 0.0 for value in numbers.sort().gather(ranks).to_list()]


def _distinct(column: pl.Series) -> int | None:
    if column.dtype.is_float() or column.dtype.is_temporal() or column.dtype.is_nested():
        return None
    return column.drop_nulls().n_unique()


def _named_values(column: pl.Series) -> tuple[list[str], list[int]]:
    """The values that at least ``LEAST_NAMED_SHARE`` of the rows have, and how many have each; flags always."""
    if column.dtype.is_temporal() or column.dtype.is_nested() or column.dtype == pl.Binary:
        return [], []
    least = 1 if column.dtype == pl.Boolean else max(LEAST_NAMED_SHARE * len(column), 2)
    often = column.drop_nulls().value_counts(name="rows").filter(pl.col("rows") >= least)
    named = zip(often.to_series(0).cast(pl.String), often["rows"], strict=True)
    most = _MOST_NAMED if column.dtype.is_numeric() else None
    found = sorted(named, key=lambda value_and_rows: (-value_and_rows[1], value_and_rows[0]))[:most]
    return [value for value, _ in found], [rows for _, rows in found]


def read_profile(table: pl.DataFrame) -> Profile:
    """A stored profile."""
    columns = {}
    for row in table.iter_rows(named=True):
        rows = row["rows"]
        columns[row["column"]] = ColumnProfile(
            name=row["column"],
            type=row["type"],
            rows=rows,
            nulls=row["nulls"],
            not_finite=row["not_finite"] or 0,
            distinct=row["distinct"],
            sketch=np.array(row["quantiles"], dtype=np.float64),
            shares={value: count / rows for value, count in zip(row["values"], row["counts"], strict=True)},
        )
    first = table.row(0, named=True)
    return Profile(first["rows"], columns)
