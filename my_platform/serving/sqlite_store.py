"""Online state in an SQLite file: one process writes it, and what it acknowledged survives its end."""

import fcntl
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from my_platform.features.online import Event, Key
from my_platform.serving.store import (
    SCHEMA_VERSION,
    EntityEvent,
    Partition,
    Remembered,
    StoreError,
    encoded,
)
from my_platform.serving.transactions import transaction

# Keys are integers or texts: columns without a type keep them apart.
_SCHEMA = """
create table partitions (
    id integer primary key, feature_set text not null, name text not null, version text not null,
    unique (feature_set, name)
);
create table events (
    feature_set text not null, entity not null, second integer not null, key not null, partition integer,
    content text not null, primary key (feature_set, entity, second, key)
) without rowid;
create index events_of_partition on events (partition) where partition is not null;
create table rows (key primary key not null, second integer not null, content text not null) without rowid;
create table forgotten (feature_set text primary key, second integer not null) without rowid;
"""
_ADD = "insert or ignore into events (feature_set, entity, second, key, content) values"
_TAKE_IN = (
    "insert into events (feature_set, entity, second, key, content, partition) values (?, ?, ?, ?, ?, ?) "
    "on conflict do update set content = excluded.content, partition = excluded.partition"
)
# As many values may stand in one statement.
_KEYS_AT_ONCE = 500
_REMEMBER = "insert or ignore into rows (key, second, content) values"
# So many rows are added by one statement: with each of them Python's lock goes to the thread that scores and back.
_ROWS_AT_ONCE = 20
_CORRECT = (
    "insert into rows (key, second, content) values (?, ?, ?) "
    "on conflict do update set second = excluded.second, content = excluded.content"
)


class SqliteStore:
    """A `StateStore` in a file, which one thread may read while another writes.

    Args:
        path: the file; made where it is missing.
        synchronous: `normal` survives the end of the process, `full` also a loss of power, at the price of a
            write to the disk for every transaction.

    Raises:
        StoreError: another process has the file open, or it is of a newer version of the platform.
    """

    def __init__(self, path: Path, *, synchronous: Literal["normal", "full"] = "normal") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._lock = path.with_suffix(".lock").open("wb")
        try:
            # A second process would not see what this one holds in memory.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise StoreError(
                f"online state {path}: another process has it open, which one alone may write; stop that one, or give "
                "this one another home"
            ) from error
        self._database, self._reader = (
            sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
            for _ in range(2)
        )
        try:
            self._open(synchronous)
        except sqlite3.Error as error:
            self.close()
            raise StoreError(
                f"online state {path}: {error}; the file is broken or cannot be written: remove it and bootstrap "
                "again, or give this process the right to write"
            ) from error
        except StoreError:
            self.close()
            raise

    def append(self, events: Iterable[EntityEvent], rows: Iterable[Remembered] = ()) -> None:
        added = [
            (feature_set, entity, event.second, event.order, encoded(event.values))
            for feature_set, entity, event in events
        ]
        with transaction(self._database):
            self._add(_ADD, added)
            self._add(_REMEMBER, list(_texts(rows)))

    def events(self, feature_set: str, entity: Key) -> list[Event]:
        found = self._reader.execute(
            "select second, key, content from events where feature_set = ? and entity = ? order by second, key",
            (feature_set, entity),
        ).fetchall()
        contents = json.loads(f"[{','.join(content for _, _, content in found)}]")
        return [
            Event(second, key, tuple(values))
            for (second, key, _), values in zip(found, contents, strict=True)
        ]

    def row(self, key: Key) -> Mapping[str, Any] | None:
        found = self._reader.execute("select content from rows where key = ?", (key,)).fetchone()
        return json.loads(found[0]) if found else None

    def rows(self, keys: Sequence[Key]) -> Mapping[Key, Mapping[str, Any]]:
        found: dict[Key, Mapping[str, Any]] = {}
        for first in range(0, len(keys), _KEYS_AT_ONCE):
            part = keys[first : first + _KEYS_AT_ONCE]
            marks = ", ".join("?" * len(part))
            rows = self._reader.execute(f"select key, content from rows where key in ({marks})", part)
            found |= {key: json.loads(content) for key, content in rows}
        return found

    def replace(self, partitions: Iterable[Partition], rows: Iterable[Remembered] = ()) -> None:
        with transaction(self._database):
            for partition in partitions:
                self._replace(partition)
            self._database.executemany(_CORRECT, _texts(rows))

    def remove(self, events: Iterable[EntityEvent]) -> None:
        with transaction(self._database):
            self._database.executemany(
                "delete from events where feature_set = ? and entity = ? and second = ? and key = ?",
                ((name, entity, event.second, event.order) for name, entity, event in events),
            )

    def versions(self, feature_set: str) -> Mapping[str, str]:
        # Another thread asks this. While it reads, all that reads by the same connection sees the state as it was when
        # it began, and not what was written since.
        with closing(sqlite3.connect(self._path, timeout=5.0, isolation_level=None)) as own:
            found = own.execute("select name, version from partitions where feature_set = ?", (feature_set,))
            return dict(found.fetchall())

    def forget(self, before: Mapping[str, int], rows_before: int) -> None:
        with transaction(self._database):
            for feature_set, second in before.items():
                self._database.execute(
                    "delete from events where feature_set = ? and second < ?", (feature_set, second)
                )
                self._database.execute(
                    "insert into forgotten values (?, ?) on conflict do update set "
                    "second = max(second, excluded.second)",
                    (feature_set, second),
                )
            self._database.execute("delete from rows where second < ?", (rows_before,))

    def forgotten(self, feature_set: str) -> int | None:
        found = self._reader.execute(
            "select second from forgotten where feature_set = ?", (feature_set,)
        ).fetchone()
        return found[0] if found else None

    def close(self) -> None:
        self._reader.close()
        self._database.close()
        self._lock.close()

    def _open(self, synchronous: str) -> None:
        for pragma in (
            "journal_mode = wal",
            f"synchronous = {synchronous}",
            "cache_size = -65536",
            # What a transaction appended is put in its place later, for many of them at once: it waits for the disk.
            "wal_autocheckpoint = 8192",
        ):
            self._database.execute(f"pragma {pragma}")
        self._reader.execute("pragma cache_size = -65536")
        with transaction(self._database):
            version = self._database.execute("pragma user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise StoreError(
                    f"online state {self._path}: it is of schema {version}, and this platform knows {SCHEMA_VERSION}; "
                    f"use the newer platform, or remove the file and bootstrap again"
                )
            if version == 0:
                for statement in _SCHEMA.split(";\n"):
                    self._database.execute(statement)
                self._database.execute(f"pragma user_version = {SCHEMA_VERSION}")

    def _add(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        whole = len(rows) - len(rows) % _ROWS_AT_ONCE
        if rows:
            marks = f"({', '.join('?' * len(rows[0]))})"
            several = f"{statement} {', '.join([marks] * _ROWS_AT_ONCE)}"
            for first in range(0, whole, _ROWS_AT_ONCE):
                part = rows[first : first + _ROWS_AT_ONCE]
                self._database.execute(several, tuple(chain.from_iterable(part)))
            self._database.executemany(f"{statement} {marks}", rows[whole:])

    def _replace(self, partition: Partition) -> None:
        number = self._database.execute(
            "insert into partitions (feature_set, name, version) values (?, ?, ?) "
            "on conflict do update set version = excluded.version returning id",
            (partition.feature_set, partition.name, partition.version),
        ).fetchone()[0]
        self._database.execute("delete from events where partition = ?", (number,))
        self._database.executemany(
            _TAKE_IN,
            (
                (partition.feature_set, entity, event.second, event.order, encoded(event.values), number)
                for entity, event in partition.events
            ),
        )


def _texts(rows: Iterable[Remembered]) -> Iterator[tuple[Key, int, str]]:
    return ((key, second, encoded(content)) for key, second, content in rows)
