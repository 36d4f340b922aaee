"""The local index of what has been computed: rows about objects, for reading in bulk.

It is a cache in SQLite. A trace is durable when its object is; the index may lag behind or be deleted, and
is filled again from the objects. It also keeps the refusals, the digests of landed files, and what each
computation cost.
"""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from my_platform.errors import HomeError

_TABLES = """
create table if not exists traces (
    asset text not null, partition text not null, fingerprint text not null,
    data_version text not null, code_version text not null,
    rows integer not null, bytes integer not null, seconds real not null,
    primary key (asset, partition, fingerprint)
) without rowid;
create table if not exists refusals (
    asset text not null, partition text not null, fingerprint text not null,
    reason text not null, primary key (asset, partition, fingerprint)
) without rowid;
create table if not exists disputed (
    asset text not null, partition text not null, primary key (asset, partition)
) without rowid;
create table if not exists costs (
    asset text not null, partition text not null, fingerprint text not null, run_id text not null,
    at_s real not null, wall_s real not null, cpu_s real not null,
    peak_bytes integer not null, read_bytes integer not null, written_bytes integer not null,
    gpu_s real not null default 0, gpu_idle_s real, gpu_waited_s real,
    primary key (asset, partition, fingerprint, run_id)
) without rowid;
create table if not exists reused (
    asset text primary key, partitions integer not null
) without rowid;
create table if not exists about (lake text not null);
create table if not exists landed (
    path text primary key, size integer not null, mtime_ns integer not null, inode integer not null,
    digest text not null, hashed_at_ns integer not null
) without rowid;
"""

# What an index has not that an older version made: columns of costs, in this order.
_COST_COLUMNS_SINCE = {
    "gpu_s": "real not null default 0",
    "gpu_idle_s": "real",
    "gpu_waited_s": "real",
}


@dataclass(frozen=True)
class Trace:
    """Fingerprint F of a partition gave a data version, at a cost."""

    asset: str
    partition: str
    fingerprint: str
    data_version: str
    code_version: str
    rows: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Cost:
    """What a run spent on computing a partition; it stays when the value is removed.

    Attributes:
        at_s: when it was done, in seconds since 1970.
        wall_s, cpu_s: seconds by the clock, and of all processors, of the function that computed it.
        peak_bytes: the most memory that the process had held until then.
        read_bytes, written_bytes: bytes of stored inputs and landed files, and of the stored value.
        gpu_s: seconds for which it held CUDA devices, times their number.
        gpu_idle_s: for how many of those, at least, the devices had nothing to do; None where it did not tell.
        gpu_waited_s: the part of the idle seconds in which they waited for data within a fit.
    """

    asset: str
    partition: str
    fingerprint: str
    run_id: str
    at_s: float
    wall_s: float
    cpu_s: float
    peak_bytes: int
    read_bytes: int
    written_bytes: int
    gpu_s: float = 0.0
    gpu_idle_s: float | None = None
    gpu_waited_s: float | None = None


@dataclass(frozen=True)
class Totals:
    """What the computations of an asset cost together, as ``Cost`` counts it."""

    partitions: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    gpu_s: float = 0.0
    gpu_idle_s: float = 0.0
    read_bytes: int = 0
    written_bytes: int = 0


@dataclass(frozen=True)
class LandedFile:
    """A landed file as it was when it was hashed. Times in nanoseconds, size in bytes."""

    path: str
    size: int
    mtime_ns: int
    inode: int
    digest: str
    hashed_at_ns: int


class TraceIndex:
    """Rows of traces, refusals and landed files in one SQLite file, safe for several processes.

    Args:
        path: the SQLite file.
        lake: where the objects lie, if not beside the file; traces of another place are forgotten.
    """

    def __init__(self, path: Path, lake: str = "") -> None:
        self.path = path
        self.lake = lake
        self._of_thread = threading.local()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._prepare()
        except (OSError, sqlite3.OperationalError) as error:
            raise HomeError(
                f"the index {path} cannot be used: {error}. Give the user of this process the right to write "
                "there, or choose another folder with --home or MY_PLATFORM_HOME"
            ) from error
        except sqlite3.DatabaseError:
            # Not a database any more. What it said is told again by the objects and the landed files.
            self._of_thread = threading.local()
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            self._prepare()

    def _prepare(self) -> None:
        with self._connection() as connection:
            connection.execute("pragma journal_mode=wal")
            connection.executescript(_TABLES)
            columns = {row[1] for row in connection.execute("pragma table_info(costs)")}
            for name, kind in _COST_COLUMNS_SINCE.items():
                if name not in columns:
                    # Another process may be adding it, too.
                    with contextlib.suppress(sqlite3.OperationalError):
                        connection.execute(f"alter table costs add column {name} {kind}")
            known = connection.execute("select lake from about").fetchone()
            if known != (self.lake,):
                connection.execute("delete from about")
                connection.execute("insert into about values (?)", (self.lake,))
                if known is not None or self.lake:
                    connection.execute("delete from traces")

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A transaction on this thread's connection, which stays open while the file is the same."""
        mine = self._of_thread
        if getattr(mine, "inode", None) != self._inode():
            mine.connection = sqlite3.connect(self.path, timeout=60)
            mine.connection.execute("pragma synchronous=normal")
            mine.inode = self._inode()
        with mine.connection as connection:
            yield connection

    def _inode(self) -> int:
        try:
            return os.stat(self.path).st_ino
        except FileNotFoundError:
            return -1

    def add(self, traces: Iterable[Trace], costs: Iterable[Cost] = ()) -> None:
        rows = [
            (t.asset, t.partition, t.fingerprint, t.data_version, t.code_version, t.rows, t.bytes, t.seconds)
            for t in traces
        ]
        with self._connection() as connection:
            connection.executemany("insert or replace into traces values (?,?,?,?,?,?,?,?)", rows)
            connection.executemany(
                "insert or replace into costs values (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                [astuple(cost) for cost in costs],
            )

    def costs(self) -> Iterator[Cost]:
        """What was spent, the earliest first."""
        with self._connection() as connection:
            for row in connection.execute("select * from costs order by at_s, asset, partition"):
                yield Cost(*row)

    def add_reused(self, asset: str, partitions: int) -> None:
        """Count partitions of an asset that got a stored value back instead of being computed."""
        with self._connection() as connection:
            connection.execute(
                "insert into reused values (?, ?) on conflict do update set partitions = partitions + ?",
                (asset, partitions, partitions),
            )

    def reused(self) -> dict[str, int]:
        """Partitions that were ever reused, by asset."""
        with self._connection() as connection:
            return dict(connection.execute("select asset, partitions from reused").fetchall())

    def spent(self) -> dict[str, Totals]:
        """What was ever spent, by asset."""
        with self._connection() as connection:
            rows = connection.execute(
                "select asset, count(*), sum(cpu_s), sum(wall_s), sum(gpu_s), total(gpu_idle_s), sum(read_bytes), "
                "sum(written_bytes) from costs group by asset"
            )
            return {row[0]: Totals(*row[1:]) for row in rows}

    def stored_bytes(self) -> dict[str, int]:
        """Bytes of all stored values, current or not, by asset."""
        with self._connection() as connection:
            return dict(connection.execute("select asset, sum(bytes) from traces group by asset").fetchall())

    def cpu_s_between(self, first_s: float, end_s: float) -> float:
        """Processor seconds that were spent from one time to before another, in seconds since 1970."""
        with self._connection() as connection:
            row = connection.execute(
                "select sum(cpu_s) from costs where at_s >= ? and at_s < ?", (first_s, end_s)
            ).fetchone()
            return float(row[0] or 0.0)

    def traces(self, assets: Sequence[str]) -> Iterator[Trace]:
        with self._connection() as connection:
            for asset in assets:
                for row in connection.execute("select * from traces where asset = ?", (asset,)):
                    yield Trace(*row)

    def trace(self, asset: str, partition: str, fingerprint: str) -> Trace | None:
        """The trace of a fingerprint; None where the index has none."""
        with self._connection() as connection:
            row = connection.execute(
                "select * from traces where asset=? and partition=? and fingerprint=?",
                (asset, partition, fingerprint),
            ).fetchone()
            return Trace(*row) if row else None

    def find(self, asset: str, partition: str, data_version: str) -> list[str]:
        """Fingerprints of a partition that gave a data version."""
        with self._connection() as connection:
            rows = connection.execute(
                "select fingerprint from traces where asset=? and partition=? and data_version=? order by 1",
                (asset, partition, data_version),
            )
            return [row[0] for row in rows]

    def rows_of(self, asset: str, partition: str, data_version: str) -> int:
        """The rows of a data version; 0 where no trace of it is known."""
        with self._connection() as connection:
            found = connection.execute(
                "select rows from traces where asset=? and partition=? and data_version=? limit 1",
                (asset, partition, data_version),
            ).fetchone()
            return found[0] if found else 0

    def forget(self, asset: str, partition: str, fingerprint: str) -> None:
        with self._connection() as connection:
            connection.execute(
                "delete from traces where asset=? and partition=? and fingerprint=?",
                (asset, partition, fingerprint),
            )

    def mean_cost(self, asset: str) -> tuple[float, float]:
        """Mean seconds and bytes of a partition of an asset, over all that was computed; zeros for none."""
        with self._connection() as connection:
            row = connection.execute(
                "select avg(seconds), avg(bytes) from traces where asset=?", (asset,)
            ).fetchone()
            return (row[0] or 0.0, row[1] or 0.0)

    def is_empty(self) -> bool:
        with self._connection() as connection:
            return connection.execute("select 1 from traces limit 1").fetchone() is None

    def refuse(self, asset: str, partition: str, fingerprint: str, reason: str) -> None:
        with self._connection() as connection:
            connection.execute(
                "insert or replace into refusals values (?,?,?,?)", (asset, partition, fingerprint, reason)
            )

    def refusals(self) -> dict[tuple[str, str, str], str]:
        """Reasons by (asset, partition, fingerprint)."""
        with self._connection() as connection:
            return {(a, p, f): r for a, p, f, r in connection.execute("select * from refusals")}

    def forget_refusals(self) -> None:
        with self._connection() as connection:
            connection.execute("delete from refusals")

    def dispute(self, asset: str, partition: str) -> None:
        """Note that the checks of a partition were last told of a value that was turned away."""
        with self._connection() as connection:
            connection.execute("insert or replace into disputed values (?,?)", (asset, partition))

    def settle(self, asset: str, partitions: Iterable[str]) -> None:
        """Note that the checks of partitions are told of their current values again."""
        with self._connection() as connection:
            connection.executemany(
                "delete from disputed where asset=? and partition=?",
                [(asset, partition) for partition in partitions],
            )

    def disputed(self) -> list[tuple[str, str]]:
        """Asset and partition of what was noted by ``dispute``."""
        with self._connection() as connection:
            return connection.execute("select asset, partition from disputed").fetchall()

    def landed(self) -> dict[str, LandedFile]:
        with self._connection() as connection:
            return {row[0]: LandedFile(*row) for row in connection.execute("select * from landed")}

    def landed_file(self, path: str) -> LandedFile | None:
        """A landed file as it was when it was hashed; None where it was not."""
        with self._connection() as connection:
            row = connection.execute("select * from landed where path=?", (path,)).fetchone()
            return LandedFile(*row) if row else None

    def replace_landed(self, files: Iterable[LandedFile], gone: Iterable[str]) -> None:
        with self._connection() as connection:
            connection.executemany(
                "insert or replace into landed values (?,?,?,?,?,?)",
                [(f.path, f.size, f.mtime_ns, f.inode, f.digest, f.hashed_at_ns) for f in files],
            )
            connection.executemany("delete from landed where path=?", [(path,) for path in gone])

    @staticmethod
    def relabel(path: Path, lake: str, landed: Iterable[LandedFile]) -> None:
        """Tell an index that its objects and landed files lie elsewhere now, as they were; all of it or nothing."""
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection, connection:
            connection.execute("delete from about")
            connection.execute("insert into about values (?)", (lake,))
            connection.execute("delete from landed")
            connection.executemany(
                "insert into landed values (?,?,?,?,?,?)", [astuple(file) for file in landed]
            )

    @staticmethod
    def now_ns() -> int:
        return time.time_ns()
