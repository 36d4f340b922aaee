"""Rows placed among the events they aggregate, so that every window of every row is one slice."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from my_platform.features.declaration import SECONDS_PER_DAY, Aggregate, FeatureError, FeatureSet

Integers = npt.NDArray[np.int64]

UNITS_PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True)
class _Marks:
    """What places the records of a table: entity and order as ranks, and the time in seconds."""

    entities: Integers
    seconds: Integers
    orders: Integers

    def take(self, positions: Integers) -> "_Marks":
        return _Marks(self.entities[positions], self.seconds[positions], self.orders[positions])


@dataclass(frozen=True)
class Timeline:
    """Rows and events, both sorted by (entity, time, order), and where each row stands among the events.

    `rows_in_time` puts the rows into (time, order). `event_positions` says where the sorted events stand in
    the frame they came in, `event_seconds` when they happened. `until[d]` counts for each row the events up
    to and including d days before its time, all those of earlier entities included. `own` is each row's
    position among the events, where the rows are events and a window reaches them.
    """

    rows: pl.DataFrame
    rows_in_time: Integers
    event_positions: Integers
    event_seconds: Integers
    until: Mapping[int, Integers]
    own: Integers | None

    def slices(self, aggregate: Aggregate) -> tuple[Integers, Integers]:
        """For each row, where its window starts and ends among the events."""
        start = self.until[aggregate.delay_days + aggregate.days]
        if self.own is not None and aggregate.delay_days == 0:
            return start, self.own if aggregate.past_only else self.own + 1
        return start, self.until[aggregate.delay_days]


def place(feature_set: FeatureSet, rows: pl.DataFrame, events: pl.DataFrame) -> Timeline:
    """Sort rows and events and find the edges of all windows."""
    aggregates = feature_set.aggregates.values()
    find_own = feature_set.own_events and any(a.delay_days == 0 for a in aggregates)
    needs_order = find_own or any(a.kind in ("first", "last") for a in aggregates)
    of_rows, of_events = _marks(feature_set, rows, events, needs_order)

    # One integer stands for (entity, second). An entity has the span of all events, with a place to spare on
    # either side for every second earlier or later.
    earliest, latest = (
        (int(of_events.seconds.min()), int(of_events.seconds.max())) if events.height else (0, 0)
    )
    span = latest - earliest + 3

    def keys(marks: _Marks, days_back: int = 0) -> Integers:
        seconds = marks.seconds - (days_back * SECONDS_PER_DAY + earliest - 1)
        return marks.entities * span + np.clip(seconds, 0, span - 1)

    event_positions = _argsort(keys(of_events), of_events.orders)
    of_events = of_events.take(event_positions)
    row_positions = _argsort(keys(of_rows), of_rows.orders)
    of_rows, rows = of_rows.take(row_positions), rows[row_positions]

    event_keys, row_keys = keys(of_events), keys(of_rows)
    if needs_order:
        _refuse_repeated(feature_set, events[event_positions[_repeats(event_keys, of_events.orders)]])
    own = None
    if find_own:
        own = _own_positions(feature_set, rows, row_keys, of_rows.orders, event_keys, of_events.orders)
    edges = {days for a in aggregates for days in (a.delay_days, a.delay_days + a.days)}
    return Timeline(
        rows=rows,
        rows_in_time=_argsort(of_rows.seconds, of_rows.orders),
        event_positions=event_positions,
        event_seconds=of_events.seconds,
        until={days: np.searchsorted(event_keys, keys(of_rows, days), side="right") for days in edges},
        own=own,
    )


def _marks(
    feature_set: FeatureSet, rows: pl.DataFrame, events: pl.DataFrame, needs_order: bool
) -> tuple[_Marks, _Marks]:
    row_table, event_table = feature_set.rows, feature_set.events
    entities = _entity_ranks(
        _known(row_table, rows, feature_set.entity), _known(event_table, events, feature_set.entity)
    )
    orders = [_known(row_table, rows, feature_set.order)]
    if needs_order:
        orders.append(_known(event_table, events, feature_set.event_order))
    row_orders, event_orders = np.split(_order_ranks(*orders), [rows.height])
    return (
        _Marks(entities[: rows.height], _seconds(row_table, rows, feature_set.time), row_orders),
        _Marks(
            entities[rows.height :],
            _seconds(event_table, events, feature_set.event_time),
            event_orders if needs_order else np.zeros(events.height, np.int64),
        ),
    )


def _entity_ranks(rows: pl.Series, events: pl.Series) -> Integers:
    """Small integers, one for each entity, of the rows and then of the events."""
    both = _joined(rows, events)
    if both.dtype.is_integer() and both.len():
        integers = both.to_numpy()
        lowest, highest = int(integers.min()), int(integers.max())
        if highest - lowest < 2 * both.len() + 1024:
            return integers - lowest
    names = both.cast(pl.String)
    return names.cast(pl.Enum(names.unique())).to_physical().cast(pl.Int64).to_numpy()


def _order_ranks(*columns: pl.Series) -> Integers:
    """Integers that are ordered as the values of the columns are, one column after the other."""
    joined = _joined(*columns)
    return (joined if joined.dtype.is_integer() else joined.rank("dense").cast(pl.Int64)).to_numpy()


def _joined(*columns: pl.Series) -> pl.Series:
    if all(column.dtype.is_integer() for column in columns):
        return pl.concat([column.cast(pl.Int64) for column in columns])
    if all(column.dtype == pl.String for column in columns):
        return pl.concat(columns)
    raise FeatureError(
        f"column {columns[0].name}: expected integers or strings, in rows and events alike; found "
        f"{', '.join(str(column.dtype) for column in columns)}"
    )


def _argsort(keys: Integers, orders: Integers) -> Integers:
    """The positions that sort by (key, order). Few keys repeat, so only those are sorted by order."""
    positions = np.argsort(keys, kind="stable")
    repeats = _repeats(keys[positions])
    tied = np.union1d(repeats, repeats + 1)
    among = positions[tied]
    positions[tied] = among[np.lexsort((orders[among], keys[among]))]
    return positions


def _repeats(*columns: Integers) -> Integers:
    """The positions of sorted records that are equal to the next one."""
    return np.flatnonzero(np.logical_and.reduce([np.diff(column) == 0 for column in columns]))


def _refuse_repeated(feature_set: FeatureSet, repeated: pl.DataFrame) -> None:
    if repeated.height:
        columns = feature_set.entity, feature_set.event_time, feature_set.event_order
        raise FeatureError(
            f"{feature_set.events}: {repeated.height} events stand more than once, such as "
            f"{repeated.select(columns).row(0, named=True)}; events of one entity and second must differ in "
            f"{feature_set.event_order}"
        )


def _own_positions(
    feature_set: FeatureSet,
    rows: pl.DataFrame,
    row_keys: Integers,
    row_orders: Integers,
    event_keys: Integers,
    event_orders: Integers,
) -> Integers:
    """Where each row stands among the events, found by (entity, time) and then, within a second, by order."""
    positions = np.searchsorted(event_keys, row_keys, side="left")
    pending = np.arange(rows.height)
    while pending.size:
        lost = positions[pending] == event_keys.size
        lost[~lost] = event_keys[positions[pending[~lost]]] != row_keys[pending[~lost]]
        if lost.any():
            columns = feature_set.entity, feature_set.time, feature_set.order
            raise FeatureError(
                f"{feature_set.name}: {int(lost.sum())} rows are not among their own events, such as "
                f"{rows.select(columns).row(int(pending[lost][0]), named=True)}; give the events of the "
                f"rows' days too"
            )
        pending = pending[event_orders[positions[pending]] != row_orders[pending]]
        positions[pending] += 1
    return positions


def column_of(table: str, frame: pl.DataFrame, column: str) -> pl.Series:
    if column not in frame.columns:
        raise FeatureError(f"{table}: there is no column {column} among {frame.columns}")
    return frame[column]


def _known(table: str, frame: pl.DataFrame, column: str) -> pl.Series:
    series = column_of(table, frame, column)
    if series.null_count():
        raise FeatureError(f"{table}, column {column}: {series.null_count()} values are null; none may be")
    return series


def _seconds(table: str, frame: pl.DataFrame, column: str) -> Integers:
    series = _known(table, frame, column)
    dtype = series.dtype
    if not isinstance(dtype, pl.Datetime) or dtype.time_zone not in (None, "UTC"):
        raise FeatureError(f"{table}, column {column}: expected UTC datetimes, found {dtype}")
    seconds, rest = np.divmod(series.to_physical().to_numpy(), UNITS_PER_SECOND[dtype.time_unit])
    if rest.any():
        found = series[int(np.flatnonzero(rest)[0])]
        raise FeatureError(
            f"{table}, column {column}: expected whole seconds, found {found}; derive {column} with "
            f'.dt.truncate("1s")'
        )
    return seconds
