"""Online compiler: the features of one row at a time, from a state that takes an entity's events one by one.

A feature set is compiled to straight-line Python (`my_platform.features.online_code`). An entity's state holds
its events sorted by (second, order), and prefix sums over them in integers: a window is found by bisection, its
count or total is a difference. Both must give what the offline compiler gives, bit for bit.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from my_platform.features.declaration import SECONDS_PER_DAY, FeatureError, FeatureSet
from my_platform.features.online_code import Layout, environment, seconds_of, source_of

LATENESS_DAYS = 2
# Fewer events than this are not worth pruning.
_PRUNED_FROM = 64

Key = int | str
# Column by column, in Python's type for the column's: None for null, days for dates, ticks of their unit since 1970
# for datetimes.
Row = Mapping[str, Any]
Values = tuple[Any, ...]


class Event(NamedTuple):
    """What a state keeps of an event: its place in time, and the columns that the aggregates read."""

    second: int
    order: Key
    values: Values


class Answer(NamedTuple):
    """The features of a row in the order of their declaration, None for null.

    `degraded` says why they may differ from the offline ones, None where they cannot.
    """

    values: Values
    degraded: str | None


@dataclass(frozen=True, eq=False)
class OnlineFeatures:
    """A feature set in its online form; make one with `compile_online`.

    `row_types` and `event_types` are the columns of the two tables, `types` the features with their types,
    `event_columns` what an event's values hold, `reach_s` how far before a row its longest window begins, and
    `lateness_s` how much further back events are kept.
    """

    feature_set: FeatureSet
    row_types: Mapping[str, pl.DataType]
    event_types: Mapping[str, pl.DataType]
    types: Mapping[str, pl.DataType]
    event_columns: tuple[str, ...]
    reach_s: int
    lateness_s: int
    source: str
    layout: Layout
    append: Callable[["EntityState", int, Values], None]
    score: Callable[["EntityState", Row], Values]
    row_ticks: int
    event_ticks: int

    def event(self, record: Row) -> Event:
        """An event of a record of the events' table; raises FeatureError where time or order is no event's."""
        declared = self.feature_set
        tick, order = record[declared.event_time], record[declared.event_order]
        if tick is None or order is None:
            raise FeatureError(
                f"{declared.events}: {declared.event_time} or {declared.event_order} of an event is null; none may be"
            )
        second, rest = divmod(tick, self.event_ticks)
        if rest:
            raise FeatureError(
                f"{declared.events}, column {declared.event_time}: expected whole seconds, found {tick} of "
                f"{self.event_ticks} to the second"
            )
        return Event(second, order, tuple([record[name] for name in self.event_columns]))

    @property
    def table_types(self) -> dict[str, pl.DataType]:
        """The columns of the feature set's own table, which other sets may read: those kept, and the features."""
        return {name: self.row_types[name] for name in self.feature_set.keep} | dict(self.types)

    def table_row(self, row: Row, values: Values) -> dict[str, Any]:
        """A row of the feature set's own table, of the row that has these features."""
        kept = {name: row[name] for name in self.feature_set.keep}
        return kept | dict(zip(self.types, values, strict=True))

    def state(self) -> "EntityState":
        """The state of an entity without events."""
        return EntityState(self)


class EntityState:
    """The events of one entity. `seconds` and `lists` are read by compiled code and changed by no one else."""

    __slots__ = ("_compiled", "_dropped", "_events", "_orders", "lists", "seconds")

    def __init__(self, compiled: OnlineFeatures) -> None:
        self._compiled = compiled
        self._events: list[Event] = []
        self._orders: list[Key] = []
        # The second of the latest event that was dropped, None if none was.
        self._dropped: int | None = None
        self.seconds: list[int] = []
        self.lists = self._empty()

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def events(self) -> tuple[Event, ...]:
        """The events that are kept, in (second, order)."""
        return tuple(self._events)

    def insert(self, event: Event) -> bool:
        """Take an event in; False where it was known already, or is older than what any row may ask for.

        In order it takes constant time on average; an earlier event makes the later ones be added anew. Raises
        FeatureError where another event has the same time and order.
        """
        seconds, second = self.seconds, event.second
        if not seconds or second > seconds[-1] or (second == seconds[-1] and event.order > self._orders[-1]):  # type: ignore[operator]
            self._add(event)
            self._prune()
            return True
        position = self._place(second, event.order)
        if self._holds(position, second, event.order):
            self._refuse_other(position, event)
            return False
        if second <= seconds[-1] - self._compiled.reach_s - self._compiled.lateness_s:
            self.forgotten(second)
            return False
        later = self._events[position:]
        try:
            self._replace_from(position, [event, *later])
        except FeatureError:
            self._replace_from(position, later)
            raise
        return True

    def features(self, row: Row, event: Event | None = None) -> Answer:
        """The features of a row, from the events at or before it.

        Where rows are their own events, the row counts as one whether it was inserted or not, and as it was
        inserted if it was; asking leaves no trace. `event` is the row's, where it was made before. Raises
        FeatureError where a total exceeds 64 bits or a strict cast fails, as the offline compiler.
        """
        compiled = self._compiled
        declared = compiled.feature_set
        if event is None and declared.own_events:
            event = compiled.event(row)
        position = self._place(event.second, event.order) if event else 0
        if event is None or self._holds(position, event.second, event.order):
            return Answer(compiled.score(self, row), self._doubt(row))
        later = self._events[position:]
        try:
            self._replace_from(position, [event, *later])
            return Answer(compiled.score(self, row), self._doubt(row))
        finally:
            self._replace_from(position, later)

    def holds(self, event: Event) -> bool:
        """Whether an event of this time and order is kept."""
        return self._holds(self._place(event.second, event.order), event.second, event.order)

    def events_of(self, order: Key) -> list[Event]:
        """The events of an order, at whatever time."""
        return [event for event in self._events if event.order == order]

    def forgotten(self, second: int) -> None:
        """Events up to this second were dropped, here or where the state was read from."""
        self._dropped = second if self._dropped is None else max(second, self._dropped)

    def position_of(self, second: int, order: Key) -> int:
        """How many events come before the one at (second, order)."""
        last = len(self.seconds) - 1
        if last >= 0 and self.seconds[last] == second and self._orders[last] == order:
            return last
        return self._place(second, order)

    def _doubt(self, row: Row) -> str | None:
        if self._dropped is None:
            return None
        declared = self._compiled.feature_set
        begins = row[declared.time] // self._compiled.row_ticks - self._compiled.reach_s
        if self._dropped <= begins:
            return None
        return (
            f"{declared.name}: events up to second {self._dropped} are not kept any more, and the row's windows begin "
            f"after second {begins}"
        )

    def _place(self, second: int, order: Key) -> int:
        low = bisect_left(self.seconds, second)
        high = bisect_right(self.seconds, second, low)
        return low if low == high else bisect_left(self._orders, order, low, high)

    def _holds(self, position: int, second: int, order: Key) -> bool:
        return (
            position < len(self.seconds)
            and self.seconds[position] == second
            and self._orders[position] == order
        )

    def _add(self, event: Event) -> None:
        # First what may be refused, so that a refused event leaves no trace.
        self._compiled.append(self, event.second, event.values)
        self.seconds.append(event.second)
        self._orders.append(event.order)
        self._events.append(event)

    def _replace_from(self, position: int, events: list[Event]) -> None:
        """Let these events be all from a position on."""
        layout, lists = self._compiled.layout, self.lists
        for number, count in layout.kept.items():
            del lists[number][lists[count][position] :]
        for number in layout.prefixes:
            del lists[number][position + 1 :]
        del self.seconds[position:], self._orders[position:], self._events[position:]
        for event in events:
            self._add(event)

    def _prune(self) -> None:
        """Drop events that no row can ask for, once they are the greater part."""
        kept = len(self.seconds)
        horizon = self.seconds[-1] - self._compiled.reach_s - self._compiled.lateness_s
        if kept < _PRUNED_FROM or self.seconds[kept // 2] > horizon:
            return
        first = bisect_right(self.seconds, horizon)
        self.forgotten(self.seconds[first - 1])
        events = self._events[first:]
        self._replace_from(0, events)

    def _empty(self) -> tuple[list[int], ...]:
        kept = self._compiled.layout.kept
        return tuple([] if number in kept else [0] for number in range(self._compiled.layout.lists))

    def _refuse_other(self, position: int, event: Event) -> None:
        known, declared = self._events[position].values, self._compiled.feature_set
        # Texts tell 0.0 from -0.0 and 1 from True, and take what is not a number for itself.
        if repr(known) != repr(event.values):
            names = self._compiled.event_columns
            raise FeatureError(
                f"{declared.events}: an event with {declared.event_order} {event.order!r} at second {event.second} is "
                f"known as {dict(zip(names, known, strict=True))}, and is now "
                f"{dict(zip(names, event.values, strict=True))}; correct it in its partition"
            )


def compile_online(
    feature_set: FeatureSet,
    rows: Mapping[str, pl.DataType],
    events: Mapping[str, pl.DataType] | None = None,
    *,
    lateness_days: int = LATENESS_DAYS,
) -> OnlineFeatures:
    """The online form of a feature set.

    Args:
        rows: the columns of the rows' table with their types.
        events: those of the events' table; left out where rows are their own events.
        lateness_days: rows and events that come so much later than the newest event are still exact.

    Raises:
        FeatureError: an expression or a column has no exact online form; the message names it.
    """
    if events is None and not feature_set.own_events:
        raise FeatureError(f"{feature_set.name}: give the events' columns too, those of {feature_set.events}")
    events = rows if events is None else events
    source, layout, event_columns, types = source_of(feature_set, rows, events)
    names = environment(feature_set)
    exec(compile(source, f"<online form of {feature_set.name}>", "exec"), names)
    return OnlineFeatures(
        feature_set=feature_set,
        row_types=dict(rows),
        event_types=dict(events),
        types=types,
        event_columns=event_columns,
        reach_s=-feature_set.reads().first * SECONDS_PER_DAY,
        lateness_s=lateness_days * SECONDS_PER_DAY,
        source=source,
        layout=layout,
        append=names["append"],
        score=names["score"],
        row_ticks=seconds_of(feature_set.rows, rows, feature_set.time),
        event_ticks=seconds_of(feature_set.events, events, feature_set.event_time),
    )
