"""Offline compiler: all features of all rows of a table at once.

Events are sorted by (entity, time, order), so that every window of every row is one slice of them. Counts
and totals are differences of prefix sums, extremes come from a sparse table, first and last are the ends of
the slice. All of it runs over 64-bit integers: a row's value is the same whatever else is computed with it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from my_platform.features.columns import derive, evaluate
from my_platform.features.declaration import Aggregate, Condition, FeatureError, FeatureSet
from my_platform.features.timeline import Integers, Timeline, column_of, place

MAX_INTEGER = 2**63 - 1
MAX_SQUARED = 3_037_000_499
COMPARISONS: Mapping[str, Callable[[pl.Expr, Any], pl.Expr]] = {
    "==": pl.Expr.eq,
    "!=": pl.Expr.ne,
    "<": pl.Expr.lt,
    "<=": pl.Expr.le,
    ">": pl.Expr.gt,
    ">=": pl.Expr.ge,
}


def compute(feature_set: FeatureSet, rows: pl.DataFrame, events: pl.DataFrame | None = None) -> pl.DataFrame:
    """The features of `rows`, sorted by (time, order): the columns `keep`, then `columns` as declared.

    `events` must hold at least the days that `feature_set.reads()` names around the rows; more changes
    nothing. Left out, the rows are their own events, and all there are.

    Raises FeatureError where a table lacks a column or has one of a wrong type; where a time, order or
    entity is null or a time lies between two seconds; where a row is not among its own events; where two
    events of an entity have the same time and order, if order matters; where a sum exceeds 64 bits.
    """
    if events is None and not feature_set.own_events:
        raise FeatureError(f"{feature_set.name}: give the events too, rows of {feature_set.events}")
    rows = derive(feature_set.rows, rows, feature_set.derive)
    events = rows if events is None else derive(feature_set.events, events, feature_set.event_derive)
    if clash := sorted(set(feature_set.aggregates) & set(rows.columns)):
        raise FeatureError(
            f"{feature_set.name}: {clash} are both aggregates and columns of {feature_set.rows}; rename "
            f"the aggregates"
        )
    timeline = place(feature_set, rows, events)

    matches: dict[tuple[tuple[Condition, ...], str | None], _Matches] = {}
    aggregates = []
    for name, aggregate in feature_set.aggregates.items():
        selection = aggregate.where, aggregate.column
        if selection not in matches:
            matches[selection] = _matches(feature_set.events, events, timeline, *selection)
        try:
            aggregates.append(_aggregate(name, aggregate, timeline, matches[selection]))
        except OverflowError as error:
            raise FeatureError(f"{feature_set.name}, aggregate {name}: {error}") from error
    return evaluate(feature_set, timeline.rows.hstack(aggregates))[timeline.rows_in_time]


@dataclass(frozen=True)
class _Matches:
    """The events that one selection takes, and the column's values there, or the times without a column.

    `before[i]` counts them among the first i events of the timeline.
    """

    before: Integers
    values: Integers


def _matches(
    table: str, events: pl.DataFrame, timeline: Timeline, where: tuple[Condition, ...], column: str | None
) -> _Matches:
    tests = [_test(table, events, condition) for condition in where]
    values = timeline.event_seconds
    if column is not None:
        series = column_of(table, events, column)
        if not series.dtype.is_integer():
            raise FeatureError(
                f"{table}, column {column}: only integers are aggregated, found {series.dtype}; derive an "
                f"integer column such as cents"
            )
        tests.append(pl.col(column).is_not_null())
        values = series.fill_null(0).cast(pl.Int64).to_numpy()[timeline.event_positions]
    met = events.select(pl.all_horizontal(pl.repeat(True, pl.len()), *tests).fill_null(False)).to_series()
    mask = met.to_numpy()[timeline.event_positions]
    before = np.zeros(events.height + 1, np.int64)
    np.cumsum(mask, out=before[1:])
    return _Matches(before, values[mask])


def _test(table: str, events: pl.DataFrame, condition: Condition) -> pl.Expr:
    dtype = column_of(table, events, condition.column).dtype
    match condition.value:
        case bool():
            fits = dtype == pl.Boolean
        case int():
            fits = dtype.is_integer()
        case _:
            fits = dtype == pl.String
    if not fits:
        raise FeatureError(
            f"{table}, column {condition.column}: it is {dtype}, which {condition} cannot test"
        )
    return COMPARISONS[condition.operator](pl.col(condition.column), condition.value)


def _aggregate(name: str, aggregate: Aggregate, timeline: Timeline, matches: _Matches) -> pl.Series:
    """The value of one aggregate for each row of the timeline, as Int64, null where it has none."""
    start, end = (matches.before[edge] for edge in timeline.slices(aggregate))
    values = matches.values
    match aggregate.kind:
        case "count":
            return pl.Series(name, end - start)
        case "total":
            return pl.Series(name, _totals(values, start, end))
        case "total_squares":
            if values.size and max(-int(values.min()), int(values.max())) > MAX_SQUARED:
                raise OverflowError(f"a square of {aggregate.column} exceeds 64 bits; derive a coarser unit")
            return pl.Series(name, _totals(values * values, start, end))
    filled = np.flatnonzero(end > start)
    start, end = start[filled], end[filled]
    match aggregate.kind:
        case "minimum":
            found = _extremes(np.minimum, values, start, end)
        case "maximum":
            found = _extremes(np.maximum, values, start, end)
        case "first" | "first_time":
            found = values[start]
        case "last" | "last_time":
            found = values[end - 1]
    return pl.Series(name, [None], pl.Int64).new_from_index(0, timeline.rows.height).scatter(filled, found)


def _totals(values: Integers, start: Integers, end: Integers) -> Integers:
    """Sums of the slices values[start:end]; prefix sums may wrap around 64 bits, their differences do not."""
    totals = _prefix_differences(values, start, end)
    largest = max(-int(values.min(initial=0)), int(values.max(initial=0)))
    if largest * int((end - start).max(initial=0)) > MAX_INTEGER:
        # Two halves of 32 bits, whose sums cannot wrap, tell whether a total did.
        carried = _prefix_differences(values & 0xFFFFFFFF, start, end) >> 32
        high = _prefix_differences(values >> 32, start, end) + carried
        if (high != totals >> 32).any():
            raise OverflowError("a total exceeds 64 bits; derive a coarser unit")
    return totals


def _prefix_differences(values: Integers, start: Integers, end: Integers) -> Integers:
    prefix = np.zeros(values.size + 1, np.int64)
    np.cumsum(values, out=prefix[1:])
    return prefix[end] - prefix[start]


def _extremes(extreme: np.ufunc, values: Integers, start: Integers, end: Integers) -> Integers:
    """Minimum or maximum of the slices values[start:end], none of them empty.

    A slice is covered by two blocks whose length is a power of two: a sparse table (Bender and
    Farach-Colton, 2000), of which one level is held at a time.
    """
    level = np.frexp((end - start).astype(np.float64))[1] - 1
    found = np.empty_like(start)
    blocks = values
    for exponent in range(int(level.max(initial=-1)) + 1):
        width = 1 << exponent
        chosen = np.flatnonzero(level == exponent)
        found[chosen] = extreme(blocks[start[chosen]], blocks[end[chosen] - width])
        blocks = extreme(blocks[:-width], blocks[width:])
    return found
