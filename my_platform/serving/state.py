"""Online state of several feature sets: events taken in, rows answered, partitions reconciled.

The store holds all events, the memory a bounded number of entities with their prefix sums, the least recently
used ones let go first. One process writes a store, so that what it holds in memory is what the store says.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import polars as pl

from my_platform.errors import PlatformError
from my_platform.features.declaration import FeatureError
from my_platform.features.online import Answer, EntityState, Event, Key, OnlineFeatures, Row, Values
from my_platform.serving.store import EntityEvent, Partition, Remembered, StateStore

MOST_ENTITIES = 50_000
# So many events of partitions go into one transaction of the store.
_EVENTS_AT_ONCE = 50_000


class UnknownRow(PlatformError):
    """A label for a row that is not remembered: it never came, or was forgotten."""


class ValidatedDay(NamedTuple):
    """A partition of validated events: its key, its data version, and its rows with the table's columns."""

    key: str
    version: str
    frame: pl.DataFrame


class OnlineState:
    """The declared features of a table's rows, as of the events that have come in.

    A feature set may be of another one's table, whose rows are then made of that one's answers. Labels may need a
    row's features, which are remembered with it.

    Args:
        forms: the feature sets in their online form, each after those that it reads; the others are all of one
            table of rows.
        store: where the events are kept.
        most_entities: how many entities are held in memory.
    """

    def __init__(
        self, forms: Sequence[OnlineFeatures], store: StateStore, *, most_entities: int = MOST_ENTITIES
    ) -> None:
        self._forms = tuple(forms)
        self._store = store
        self._most = most_entities
        self._held: OrderedDict[tuple[str, Key], EntityState] = OrderedDict()
        self._forgotten: dict[str, int | None] = {}
        made = {form.feature_set.name: form for form in forms}
        tables = {form.feature_set.rows for form in forms} - set(made)
        if len(tables) != 1:
            raise FeatureError(f"the feature sets are of rows of {sorted(tables)}; serve those of one table")
        (self.table,) = tables
        declared = forms[0].feature_set
        self._key, self._time, self._ticks = declared.order, declared.time, forms[0].row_ticks
        # A label's event is made of the row that it is about, which has to be found again then, and of its features.
        self._read_tables = {form.feature_set.rows for form in forms} & set(made)
        labels = [form for form in forms if form.feature_set.events not in {self.table, *made}]
        self._remembers = bool(labels)
        own = {name for form in forms if form.feature_set.rows == self.table for name in form.row_types}
        read = {name for form in labels for name in form.event_columns} - own
        self._told_by = {name: source for source, form in made.items() for name in form.types if name in read}

    @property
    def features(self) -> Mapping[str, pl.DataType]:
        """All features in the order of the answers' values, with their types."""
        return {name: dtype for form in self._forms for name, dtype in form.types.items()}

    @property
    def sets(self) -> tuple[str, ...]:
        """The names of the feature sets."""
        return tuple(form.feature_set.name for form in self._forms)

    def answer(self, row: Row) -> Answer:
        """The features of a row; nothing is changed by asking."""
        answer = self._answer(row)
        self._let_go()
        return answer

    def score(
        self, rows: Sequence[Row], *, first: Callable[[Sequence[Answer]], None] | None = None
    ) -> list[Answer]:
        """The features of rows that arrive now, each with those before it; they are events from then on.

        When it returns all of them are stored, with their features, or none is. A row that came before keeps the
        features that are remembered of it. `first` is called with the answers before they are stored: where it
        raises, nothing happened; what it wrote itself can be scored again after a crash.
        """
        answers, remembered = [], []
        added: list[EntityEvent] = []
        with self._all_or_nothing() as touched:
            for row in rows:
                answers.append(self._answer(row, added, touched))
                if self._remembers:
                    content = {
                        "row": dict(row),
                        "features": answers[-1].values,
                        "degraded": answers[-1].degraded,
                    }
                    remembered.append(Remembered(row[self._key], row[self._time] // self._ticks, content))
            if first is not None:
                first(answers)
            self._store.append(added, remembered)
        return answers

    def observe(self, table: str, records: Iterable[Row], *, first: Callable[[], None] | None = None) -> int:
        """Take events of a table of labels in; how many were new to the state. Rows are taken in by `score`.

        `first` is called before they are stored, where any is new. Raises FeatureError where an event contradicts
        one that is known; then none of them is taken in.
        """
        with self._all_or_nothing() as touched:
            added: list[EntityEvent] = []
            for record in records:
                for form in self._forms:
                    if form.feature_set.events == table:
                        entity = record[form.feature_set.entity]
                        self._take_in(form, entity, form.event(record), added, touched)
            if first is not None and added:
                first()
            self._store.append(added)
        return len(added)

    def label(self, table: str, key: Key, columns: Row, *, first: Callable[[], None] | None = None) -> bool:
        """Take in the event that a remembered row and a label's own columns make; whether it was new.

        `first` is called before it is stored, where it is new. Raises UnknownRow where the row is not remembered, and
        FeatureError where it is known with another label.
        """
        if self.knows_label(table, key, columns):
            return False
        return self.observe(table, [self._label_record(table, key, columns)], first=first) > 0

    def knows_label(self, table: str, key: Key, columns: Row) -> bool:
        """Whether a row's label is known, since whatever time; raises as `label` does."""
        record = self._label_record(table, key, columns)
        found = False
        for form in (each for each in self._forms if each.feature_set.events == table):
            own = form.event(record).values
            for event in self._entity(form, record[form.feature_set.entity]).events_of(key):
                found = True
                pairs = zip(form.event_columns, event.values, own, strict=True)
                if any(repr(was) != repr(now) for name, was, now in pairs if name in columns):
                    raise FeatureError(
                        f"{table}: {self._key} {key!r} is known since second {event.second} with another label; "
                        "withdraw that, or correct it in its file"
                    )
        return found

    def withdraw(self, table: str, key: Key, columns: Row) -> None:
        """Take the event out that a remembered row and a label's own columns made; raises UnknownRow."""
        record = self._label_record(table, key, columns)
        forms = [form for form in self._forms if form.feature_set.events == table]
        made = [EntityEvent(f.feature_set.name, record[f.feature_set.entity], f.event(record)) for f in forms]
        self._store.remove(made)
        for event in made:
            self._held.pop((event.feature_set, event.entity), None)

    def _label_record(self, table: str, key: Key, columns: Row) -> dict[str, Any]:
        """The record that a remembered row and a label's own columns make; raises UnknownRow."""
        known = self.remembered(key)
        if known is None:
            raise UnknownRow(
                f"{self.table}: no row with {self._key} {key!r} is remembered, which a label of {table} needs; land "
                f"the label with its partition instead"
            )
        told = dict(zip(self.features, known.get("features", ()), strict=False))
        for source in sorted(set(self._told_by.values())):
            told |= self._store.row(_landed(source, key)) or {}
        if lacking := sorted(set(self._told_by) - set(told)):
            raise UnknownRow(
                f"{self._told_by[lacking[0]]}: {', '.join(lacking)} of the row with {self._key} {key!r} is not "
                f"remembered, which a label of {table} needs; bootstrap {self._told_by[lacking[0]]} too, or land the "
                f"label with its partition"
            )
        features = {name: told[name] for name in self._told_by}
        return {**known["row"], **features, **columns}

    def remembered(self, key: Key) -> Mapping[str, Any] | None:
        """The `row` known under an id, as it landed if it did; `features` and `degraded` as it was scored here."""
        scored, landed = self._store.row(key), self._store.row(_landed(self.table, key))
        return scored if landed is None else {**(scored or {}), "row": landed}

    def known_rows(self, keys: Sequence[Key]) -> Mapping[Key, Row]:
        """The columns of the rows that are remembered under these ids, as they landed if they did."""
        names = {_landed(self.table, key): key for key in keys}
        found = self._store.rows([*names, *keys])
        scored = {key: found[key]["row"] for key in keys if key in found}
        return scored | {names[key]: content for key, content in found.items() if key in names}  # type: ignore[index]

    def bootstrap(self, table: str, days: Iterable[ValidatedDay], *, complete_from: int | None = None) -> int:
        """Take in validated partitions that are new or have another data version; how many events those have.

        A corrected partition's events take the place of the earlier ones; an event that had come by itself is
        the partition's from then on. `complete_from` is the second before which no partition tells what
        happened; rows whose windows reach further back are degraded.
        """
        forms = [form for form in self._forms if form.feature_set.events == table]
        known = {form.feature_set.name: self._store.versions(form.feature_set.name) for form in forms}
        if complete_from is not None:
            self._store.forget({form.feature_set.name: complete_from for form in forms}, complete_from)
        # Chunks that were stored before one is refused stay: nothing in memory may be older than they.
        self._let_all_go()
        taken = waiting = 0
        partitions: list[Partition] = []
        rows: list[Iterator[Remembered]] = []
        for day in days:
            changed = [form for form in forms if known[form.feature_set.name].get(day.key) != day.version]
            for form in changed:
                found = partition_events(form, day.frame)
                partitions.append(Partition(form.feature_set.name, day.key, day.version, found))
                waiting += day.frame.height
            if changed and self._remembers:
                rows.append(self._rows(table, changed[0], day.frame))
            if waiting >= _EVENTS_AT_ONCE:
                self._store.replace(partitions, chain.from_iterable(rows))
                partitions, rows, taken, waiting = [], [], taken + waiting, 0
        self._store.replace(partitions, chain.from_iterable(rows))
        return taken + waiting

    def forget(self, before: int) -> None:
        """Remove what no row from this second on asks for; an earlier row is degraded from then on."""
        begins = {form.feature_set.name: before - form.reach_s for form in self._forms}
        self._store.forget(begins, min(begins.values()))
        self._let_all_go()

    def _answer(
        self, row: Row, added: list[EntityEvent] | None = None, touched: set[tuple[str, Key]] | None = None
    ) -> Answer:
        """The features of a row, after it was taken in where there is a list for what that adds."""
        tables: dict[str, Row] = {self.table: row}
        values: Values = ()
        doubts = []
        for form in self._forms:
            declared = form.feature_set
            own = tables[declared.rows]
            event = None
            if declared.own_events and added is not None and touched is not None:
                before, event = len(added), form.event(own)
                self._take_in(form, own[declared.entity], event, added, touched)
                if declared.rows == self.table and len(added) == before:
                    known = self.remembered(row[self._key]) or {}
                    if "features" in known:
                        return Answer(tuple(known["features"]), known["degraded"])
            answer = self._entity(form, own[declared.entity]).features(own, event)
            values += answer.values
            if answer.degraded:
                doubts.append(answer.degraded)
            if declared.name in self._read_tables:
                tables[declared.name] = form.table_row(own, answer.values)
        return Answer(values, "; ".join(doubts) or None)

    def _take_in(
        self,
        form: OnlineFeatures,
        entity: Key,
        event: Event,
        added: list[EntityEvent],
        touched: set[tuple[str, Key]],
    ) -> None:
        declared = form.feature_set
        touched.add((declared.name, entity))
        state = self._entity(form, entity)
        # The features of a row may have moved since it came, when an earlier row came late: they stay as they were.
        if declared.events in self._read_tables and state.holds(event):
            return
        if state.insert(event):
            added.append(EntityEvent(declared.name, entity, event))

    def _entity(self, form: OnlineFeatures, entity: Key) -> EntityState:
        name = form.feature_set.name
        state = self._held.get((name, entity))
        if state is not None:
            self._held.move_to_end((name, entity))
            return state
        if entity is None:
            raise FeatureError(f"{form.feature_set.rows}, column {form.feature_set.entity}: it is null")
        state = form.state()
        if name not in self._forgotten:
            self._forgotten[name] = self._store.forgotten(name)
        if (forgotten := self._forgotten[name]) is not None:
            state.forgotten(forgotten - 1)
        for event in self._store.events(name, entity):
            state.insert(event)
        self._held[name, entity] = state
        return state

    def _let_all_go(self) -> None:
        self._held.clear()
        self._forgotten.clear()

    def _let_go(self) -> None:
        """Hold no more entities than are allowed; only between writes, when the store knows all that they do."""
        while len(self._held) > self._most:
            self._held.popitem(last=False)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[set[tuple[str, Key]]]:
        """Where taking in or storing fails, the entities touched are read again from the store."""
        touched: set[tuple[str, Key]] = set()
        try:
            yield touched
        except BaseException:
            for each in touched:
                self._held.pop(each, None)
            raise
        self._let_go()

    def _rows(self, table: str, form: OnlineFeatures, frame: pl.DataFrame) -> Iterator[Remembered]:
        """What a label may need of a partition's rows: a row's own columns, or its features."""
        names = list(form.event_types)
        if table != self.table:
            names = [name for name, source in self._told_by.items() if source == table]
        for row in online_columns(frame, form.event_types).iter_rows(named=True) if names else ():
            content = {name: row[name] for name in names}
            yield Remembered(_landed(table, row[self._key]), row[self._time] // self._ticks, content)


def _landed(table: str, key: Key) -> str:
    """The id under which a row is remembered that came in a partition of a table."""
    return f"{table} {key!r}"


def partition_events(form: OnlineFeatures, frame: pl.DataFrame) -> Iterator[tuple[Key, Event]]:
    """The events of a partition by entity; raises FeatureError where an entity or a place is null."""
    declared = form.feature_set
    places = [declared.entity, declared.event_time, declared.event_order]
    physical = online_columns(frame, form.event_types).select(
        *(pl.col(name).alias(f"__{number}") for number, name in enumerate(places)), *form.event_columns
    )
    for number, name in enumerate(places):
        if nulls := physical[f"__{number}"].null_count():
            raise FeatureError(f"{declared.events}, column {name}: {nulls} values are null; none may be")
    ticks = form.event_ticks
    if (physical["__1"] % ticks != 0).any():
        raise FeatureError(f"{declared.events}, column {declared.event_time}: expected whole seconds")
    return (
        (entity, Event(tick // ticks, order, tuple(values)))
        for entity, tick, order, *values in physical.sort("__0").iter_rows()
    )


def online_columns(frame: pl.DataFrame, types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """The table's columns as online rows hold them: dates and datetimes as integers."""
    if lacking := [name for name in types if name not in frame.columns]:
        raise FeatureError(f"a validated partition has no column {', '.join(lacking)} among {frame.columns}")
    return frame.select(
        pl.col(name).cast(dtype).to_physical() if dtype.is_temporal() else pl.col(name).cast(dtype)
        for name, dtype in types.items()
    )
