"""Dagster's event log on SQLite, with its connections kept open and check evaluations written in bulk.

Dagster's own storage makes an engine and a connection for every statement and closes them again: SQLAlchemy
compiles each statement anew, and SQLite, left by its last connection, writes its log back into the database.
One materialization costs 12 ms of processor time and waits several times for the disk; here it costs 2 ms.

The files are those of Dagster's storage, in the same place, and both may be used on one home at a time.
Commits do not wait for the disk: a process that dies loses nothing. What a power cut takes are heads, never
values, and the next refresh sets them again from the traces.

A check evaluation is logged twice and has a row of its own: by itself it costs as much as a materialization,
and a partition may have a dozen. Those that come together are written together, at a tenth of the cost.

The base class is not part of Dagster's public Python API, but may be named in ``dagster.yaml``, and what is
overridden here has public names. Written for Dagster 1.13.27; ``test_event_log.py`` fails when it moves.
"""

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeGuard

import dagster as dg
import sqlalchemy as sa
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.runs import SqlRunStorage

_INDEX = "index"
_BUSY_TIMEOUT_S = 30
# Databases that stay open: the index over all runs, and those of the runs that were used last.
_MOST_OPEN = 4
# Connections to PostgreSQL: no limit for a statement, their longest life, and how many more threads may open for a moment.
_ANY_STATEMENT_MS, _KEPT_S, _MORE_CONNECTIONS = 0, 3600, 20
_OF_EXECUTION = ("asset_key", "check_name", "partition")


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

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store events; check evaluations of one run all at once."""
        evaluations = [event for event in events if _evaluation(event) is not None and event.run_id]
        if len(evaluations) < len(events) or len({event.run_id for event in evaluations}) > 1:
            super().store_event_batch(events)
            return
        if not evaluations:
            return
        rows = [_log_row(event) for event in evaluations]
        with self.run_connection(evaluations[0].run_id) as connection:
            connection.execute(SqlEventLogStorageTable.insert(), rows)
        with self.index_connection() as connection:
            _insert_evaluations(connection, evaluations, rows)

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


def evaluation_entry(
    evaluation: dg.AssetCheckEvaluation, run_id: str, job_name: str, step_key: str
) -> dg.EventLogEntry:
    """A check evaluation as an event of a run."""
    verdict = "passed" if evaluation.passed else "did not pass"
    said = f". {evaluation.description}" if evaluation.description else "."
    name = f"{evaluation.asset_key.to_user_string()} {evaluation.partition or ''}".strip()
    event = dg.DagsterEvent(
        dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
        job_name,
        event_specific_data=evaluation,
        message=f"Asset check '{evaluation.check_name}' on {name} {verdict}{said}",
    )
    return dg.EventLogEntry(
        None, logging.DEBUG, "", run_id, time.time(), step_key, job_name, dagster_event=event
    )


def store_evaluations(storage: Any, events: Sequence[dg.EventLogEntry]) -> None:
    """Store check evaluations of one run: together in the storage above and in PostgreSQL, one by one in others."""
    if isinstance(storage, OpenSqliteEventLogStorage):
        storage.store_event_batch(events)
    elif is_in_postgres(storage):
        if events:
            with storage.index_transaction() as connection:
                _insert_evaluations(connection, events, [_log_row(event) for event in events])
    else:
        for event in events:
            storage.store_event(event)


def is_in_postgres(storage: Any) -> TypeGuard[SqlEventLogStorage]:
    """Whether an event log lies in PostgreSQL, which gives locks to several machines."""
    return isinstance(storage, SqlEventLogStorage) and hasattr(storage, "postgres_url")


def _insert_evaluations(
    connection: sa.Connection, evaluations: Sequence[dg.EventLogEntry], rows: Sequence[dict[str, Any]]
) -> None:
    """Log check evaluations of one run by their rows of the log, and set their rows of executions."""
    log, executions = SqlEventLogStorageTable, AssetCheckExecutionsTable
    numbered = log.insert().returning(log.c.id, sort_by_parameter_order=True)
    ids = [row[0] for row in connection.execute(numbered, rows)]
    told = [_execution_row(*each) for each in zip(evaluations, rows, ids, strict=True)]
    # Where Dagster has planned them, or this run has told them before, the row is there already.
    place = [executions.c[name] for name in _OF_EXECUTION]
    of_run = sa.select(*place, executions.c.id).where(
        executions.c.run_id == evaluations[0].run_id,
        executions.c.asset_key.in_({row["asset_key"] for row in told}),
    )
    known = {tuple(row[:-1]): row[-1] for row in connection.execute(of_run)}
    old = [
        {"at": known[where], **row}
        for row in told
        if (where := tuple(row[name] for name in _OF_EXECUTION)) in known
    ]
    new = [row for row in told if tuple(row[name] for name in _OF_EXECUTION) not in known]
    if old:
        connection.execute(executions.update().where(executions.c.id == sa.bindparam("at")), old)
    if new:
        connection.execute(executions.insert(), new)


def stay_connected(instance: dg.DagsterInstance) -> None:
    """Keep a connection to PostgreSQL open for events and one for runs, as Dagster's web server does.

    By itself Dagster connects for each statement, and a materialization needs several. A connection that broke meanwhile
    is replaced before it is used. Does nothing where events lie elsewhere.
    """
    events, runs = instance.event_log_storage, instance.run_storage
    if not is_in_postgres(events) or not isinstance(runs, SqlRunStorage):
        return
    for storage, connected in ((events, events.index_connection), (runs, runs.connect)):
        storage.optimize_for_webserver(_ANY_STATEMENT_MS, _KEPT_S, _MORE_CONNECTIONS)
        with connected() as connection:
            sa.event.listen(connection.engine, "checkout", _check_connected(connection.engine))
    # While a materialization is stored, Dagster asks for a table over a second connection, which is not kept.
    ask, there = events.has_table, set[str]()

    def has_table(table_name: str) -> bool:
        if table_name not in there and ask(table_name):
            there.add(table_name)
        return table_name in there

    setattr(events, "has_table", has_table)  # noqa: B010


def _check_connected(engine: sa.Engine) -> Callable[[Any, Any, Any], None]:
    def check(connection: Any, _record: Any, _proxy: Any) -> None:
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise sa.exc.DisconnectionError("PostgreSQL closed a connection") from error

    return check


def about_materialization(storage_id: int, run_id: str, timestamp: float) -> Any:
    """What tells an evaluation which materialization it is about."""
    return AssetCheckEvaluationTargetMaterializationData(
        storage_id=storage_id, run_id=run_id, timestamp=timestamp
    )


def _evaluation(event: dg.EventLogEntry) -> dg.AssetCheckEvaluation | None:
    found = event.dagster_event.event_specific_data if event.dagster_event else None
    return found if isinstance(found, dg.AssetCheckEvaluation) else None


def _log_row(event: dg.EventLogEntry) -> dict[str, Any]:
    return {
        "run_id": event.run_id,
        "event": dg.serialize_value(event),
        "dagster_event_type": dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
        "timestamp": datetime.fromtimestamp(event.timestamp, UTC).replace(tzinfo=None),
        "step_key": event.step_key,
        "asset_key": None,
        "partition": None,
    }


def _execution_row(event: dg.EventLogEntry, row: Mapping[str, Any], storage_id: int) -> dict[str, Any]:
    evaluation = _evaluation(event)
    assert evaluation is not None
    target = evaluation.target_materialization_data
    status = (
        AssetCheckExecutionRecordStatus.SUCCEEDED
        if evaluation.passed
        else AssetCheckExecutionRecordStatus.FAILED
    )
    return {
        "asset_key": evaluation.asset_key.to_string(),
        "check_name": evaluation.check_name,
        "partition": evaluation.partition,
        "run_id": event.run_id,
        "execution_status": status.value,
        "evaluation_event": row["event"],
        "evaluation_event_timestamp": row["timestamp"],
        "evaluation_event_storage_id": storage_id,
        "materialization_event_storage_id": target.storage_id if target else None,
    }
