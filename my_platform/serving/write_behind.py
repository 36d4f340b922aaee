"""A store of online state that is written a moment later, many groups of rows at once.

A group of requests touches as many places of the store as its rows have entities, and a transaction costs by
the places it touches. What waits here is in the prediction log already, from which the next start takes it in.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from my_platform.features.online import Event, Key
from my_platform.serving.store import EntityEvent, Partition, Remembered, StateStore

# So many appends wait at most; more are not looked for in the log after a crash.
MOST_WAITING = 1_000


@dataclass
class _Batch:
    """What was appended since the last one, in its order, and whose it is."""

    appended: int = 0
    events: list[EntityEvent] = field(default_factory=list)
    rows: list[Remembered] = field(default_factory=list)
    entities: set[tuple[str, Key]] = field(default_factory=set)
    keys: set[Key] = field(default_factory=set)


class WriteBehind:
    """A `StateStore` over another one, whose `append` returns before it is written; `flush` writes.

    Reading finds what waits. What is appended is written in its order: after a crash the store holds all of it up to
    some append, and nothing after. One thread uses it, but for `flush`, which any may call.

    Attributes:
        on_first: called by that thread when something waits where nothing did; it may be set at any time.
    """

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self.on_first: Callable[[], None] = lambda: None
        self._now, self._written = _Batch(), _Batch()
        # One for the change of batches, which appending waits for, and one for writing, which takes its time.
        self._change, self._writing = threading.Lock(), threading.Lock()

    @property
    def waits(self) -> bool:
        """Whether there is something to write."""
        return bool(self._now.appended or self._written.appended)

    def append(self, events: Iterable[EntityEvent], rows: Iterable[Remembered] = ()) -> None:
        """Take events and rows in to be written by the next `flush`, or by this call where too many wait."""
        with self._change:
            batch = self._now
            batch.appended += 1
            for event in events:
                batch.events.append(event)
                batch.entities.add((event.feature_set, event.entity))
            for row in rows:
                batch.rows.append(row)
                batch.keys.add(row.key)
        if batch.appended == 1:
            self.on_first()
        if batch.appended >= MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Write what waits, in one transaction; where that fails it waits on."""
        with self._writing:
            if self._written.appended:
                # The last time failed.
                self._write()
            with self._change:
                self._written, self._now = self._now, _Batch()
            if self._written.appended:
                self._write()

    def events(self, feature_set: str, entity: Key) -> list[Event]:
        if any((feature_set, entity) in batch.entities for batch in (self._now, self._written)):
            self.flush()
        return self._store.events(feature_set, entity)

    def row(self, key: Key) -> Mapping[str, Any] | None:
        self._flush_for([key])
        return self._store.row(key)

    def rows(self, keys: Sequence[Key]) -> Mapping[Key, Mapping[str, Any]]:
        self._flush_for(keys)
        return self._store.rows(keys)

    def replace(self, partitions: Iterable[Partition], rows: Iterable[Remembered] = ()) -> None:
        self.flush()
        self._store.replace(partitions, rows)

    def remove(self, events: Iterable[EntityEvent]) -> None:
        self.flush()
        self._store.remove(events)

    def versions(self, feature_set: str) -> Mapping[str, str]:
        return self._store.versions(feature_set)

    def forget(self, before: Mapping[str, int], rows_before: int) -> None:
        self.flush()
        self._store.forget(before, rows_before)

    def forgotten(self, feature_set: str) -> int | None:
        return self._store.forgotten(feature_set)

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._store.close()

    def _write(self) -> None:
        self._store.append(self._written.events, self._written.rows)
        self._written = _Batch()

    def _flush_for(self, keys: Sequence[Key]) -> None:
        if any(not batch.keys.isdisjoint(keys) for batch in (self._now, self._written)):
            self.flush()
