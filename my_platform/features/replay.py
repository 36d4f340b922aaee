"""Replay: features computed again from what was known at their time, and from nothing else.

For a row at time t every event is removed that became known after t, and of the row's own table every one that
comes after the row; then its features are computed anew. A feature that comes out otherwise has seen the future.
When an event became known is told by a column of its table, not by the declaration that is put to the test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import xxhash

from my_platform.features import offline
from my_platform.features.declaration import FeatureError, FeatureSet

Compute = Callable[[FeatureSet, pl.DataFrame, pl.DataFrame], pl.DataFrame]

_ROW = "__row"
_TIME = "__time"
_ORDER = "__order"


@dataclass(frozen=True)
class Difference:
    """A feature of a row that is another without the future: ``key`` is the row's value of ``order``."""

    column: str
    key: Any
    time: Any
    stored: Any
    replayed: Any

    def __str__(self) -> str:
        return (
            f"column {self.column} of row {self.key} ({self.time}) is {self.stored!r}, and {self.replayed!r} from what "
            f"was known then"
        )


def replay(
    feature_set: FeatureSet,
    stored: pl.DataFrame,
    rows: pl.DataFrame,
    events: pl.DataFrame | None = None,
    *,
    known_at: str | None = None,
    compute: Compute = offline.compute,
) -> list[Difference]:
    """Compute the features of some rows again, each from its own past, and compare them bit by bit.

    Args:
        stored: the rows to replay, with ``order`` and features as they are used; other columns do not matter.
        rows: the rows' table, with those rows in it. Where rows are their own events, it holds those too.
        events: the table of events; None where rows are their own events.
        known_at: the column of the events that says when each became known; by default ``event_time``.
        compute: what makes features of rows and events, if not the offline compiler.

    Returns:
        What differs: of each feature the first row, in the order of the declaration.

    Raises:
        FeatureError: a stored row is not among the rows, or a feature is not stored.
    """
    order, features = feature_set.order, list(feature_set.columns)
    if lacking := [name for name in (order, *features) if name not in stored.columns]:
        raise FeatureError(f"{feature_set.name}: the stored rows have no column {', '.join(lacking)}")
    keys = stored.get_column(order)
    sampled = rows.filter(pl.col(order).is_in(keys.implode())).with_row_index(_ROW)
    if sampled.height != stored.height:
        lost = stored.join(sampled, on=order, how="anti").get_column(order).to_list()
        raise FeatureError(
            f"{feature_set.name}: {stored.height} rows are stored, and {sampled.height} of them are among the rows of "
            f"{feature_set.rows}; missing are {lost[:3]}"
        )
    past = _past(feature_set, sampled, rows if events is None else events, known_at or feature_set.event_time)
    again = _recomputed(feature_set, sampled, past, compute)
    both = stored.select(order, *features).join(
        again.select(order, feature_set.time, *features),
        on=order,
        how="left",
        suffix=" again",
        maintain_order="left",
    )
    found = []
    for name in features:
        other = np.flatnonzero(~same_bits(both[name], both[f"{name} again"]))
        if other.size:
            row = both.row(int(other[0]), named=True)
            found.append(Difference(name, row[order], row[feature_set.time], row[name], row[f"{name} again"]))
    return found


def sample(table: pl.DataFrame, key: str, most: int) -> pl.DataFrame:
    """As many rows, chosen by a hash of their key: the same ones each time, spread over the table."""
    if table.height <= most:
        return table
    column = table.get_column(key)
    if column.dtype.is_integer():
        hashes = _mixed(column.cast(pl.Int64).to_numpy().view(np.uint64))
    else:
        hashes = np.array(
            [xxhash.xxh3_64_intdigest(str(value).encode()) for value in column], dtype=np.uint64
        )
    return table[np.sort(np.argpartition(hashes, most)[:most])]


def those_of(table: pl.LazyFrame, values: pl.Series) -> pl.DataFrame:
    """The rows that have some of these values in the column of their name, found without reading all rows at once."""
    asked = pl.col(values.name).is_in(values.unique().implode())
    return table.filter(asked).collect(engine="streaming")


def _past(
    feature_set: FeatureSet, sampled: pl.DataFrame, events: pl.DataFrame, known_at: str
) -> pl.DataFrame:
    """For each sampled row the events of its entity that it may see, marked with the row's number."""
    marks = sampled.select(
        _ROW,
        feature_set.entity,
        pl.col(feature_set.time).alias(_TIME),
        pl.col(feature_set.order).alias(_ORDER),
    )
    pairs = marks.join(events, on=feature_set.entity, how="inner", maintain_order="left_right")
    if feature_set.own_events:
        before = (pl.col(known_at) < pl.col(_TIME)) | (
            (pl.col(known_at) == pl.col(_TIME)) & (pl.col(feature_set.order) <= pl.col(_ORDER))
        )
    else:
        before = pl.col(known_at) <= pl.col(_TIME)
    return pairs.filter(before).drop(_TIME, _ORDER)


def _recomputed(
    feature_set: FeatureSet, sampled: pl.DataFrame, past: pl.DataFrame, compute: Compute
) -> pl.DataFrame:
    """The features of each row from its own past.

    All at once, each row as an entity of its own; one by one where a feature looks at the entity itself.
    """
    entity = feature_set.entity
    expressions = [
        *feature_set.derive.values(),
        *feature_set.event_derive.values(),
        *feature_set.columns.values(),
    ]
    if entity in feature_set.keep or any(entity in each.meta.root_names() for each in expressions):
        parts = past.partition_by(_ROW, as_dict=True, include_key=False)
        none = past.drop(_ROW).clear()
        return pl.concat(
            compute(feature_set, sampled[number].drop(_ROW), parts.get((number,), none))
            for number in range(sampled.height)
        )
    apart = pl.col(_ROW).cast(pl.Int64).alias(entity)
    return compute(feature_set, sampled.with_columns(apart).drop(_ROW), past.with_columns(apart).drop(_ROW))


def same_bits(one: pl.Series, other: pl.Series) -> npt.NDArray[np.bool_]:
    """Where two columns hold the same value, down to the sign of a zero; two nulls are the same."""
    if one.dtype != other.dtype:
        return np.zeros(len(one), dtype=np.bool_)
    if one.dtype.is_float():
        width = np.uint32 if one.dtype == pl.Float32 else np.uint64
        values = [column.fill_null(0).to_numpy().view(width) for column in (one, other)]
        same = (values[0] == values[1]) & (one.is_null() == other.is_null()).to_numpy()
        return np.asarray(same)
    return one.eq_missing(other).to_numpy()


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Integers spread over 64 bits (splitmix64; Steele, Lea, Flood: Fast splittable generators, 2014)."""
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))
