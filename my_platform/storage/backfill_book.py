"""What was ordered as backfills, how far they are, and which values candidates hold: one SQLite file of a home.

It is written partition by partition, so that what a killed process had done is known. Losing it loses no
value: a backfill that is ordered again finds what was computed by the traces.
"""

import contextlib
import fcntl
import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from my_platform.errors import HomeError, PlatformError
from my_platform.storage.objects import locked

_TABLES = """
create table if not exists backfills (
    id integer primary key autoincrement, ordered text not null, at_s real not null,
    state text not null default 'open', cancel integer not null default 0,
    planned integer not null default 0, seconds real not null default 0, left_s real not null default 0,
    left_partitions integer not null default 0
);
create table if not exists runs (
    backfill integer not null, run_id text not null, partitions integer not null, at_s real not null,
    primary key (backfill, run_id)
) without rowid;
create table if not exists done (
    backfill integer not null, asset text not null, partition text not null,
    kind text not null, note text not null default '',
    primary key (backfill, asset, partition)
) without rowid;
create table if not exists candidates (
    name text primary key, at_s real not null, state text not null default 'open'
) without rowid;
create table if not exists held (
    candidate text not null, asset text not null, partition text not null,
    data_version text not null, fingerprint text not null,
    primary key (candidate, asset, partition)
) without rowid;
create table if not exists made (
    candidate text not null, asset text not null, partition text not null, fingerprint text not null,
    primary key (candidate, asset, partition, fingerprint)
) without rowid;
"""
_MOST_LOOKS, _LOOK_S = 5, 0.02
OPEN, DONE, FAILED, CANCELLED, SWITCHED = "open", "done", "failed", "cancelled", "switched"


@dataclass(frozen=True)
class Ordered:
    """What a backfill was ordered to do.

    Attributes:
        assets: their names, sorted.
        first, through: YYYY-MM-DD, both included; empty for no bound.
        force: compute again what is there, and compare.
        candidate: the candidate that the values are for; empty where they become current.
        chunk: the most partitions of a run; None where seconds decide.
    """

    assets: tuple[str, ...]
    first: str = ""
    through: str = ""
    force: bool = False
    candidate: str = ""
    chunk: int | None = None

    def same_work(self, other: "Ordered") -> bool:
        """Whether another order is for the same, however it is cut."""
        return asdict(self) | {"chunk": None} == asdict(other) | {"chunk": None}


@dataclass(frozen=True)
class Backfill:
    """A backfill as the book has it. ``state`` is open, done, failed or cancelled; times in seconds since 1970.

    Attributes:
        planned: partitions that were owed when it began.
        left, left_s: partitions that were owed when its last run began, and their estimated seconds.
    """

    id: int
    ordered: Ordered
    at_s: float
    state: str
    cancel: bool
    planned: int
    seconds: float
    left_s: float
    left: int
    runs: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Held:
    """The value that a candidate has for a partition; ``data_version`` is ``absent`` where it has none any more."""

    asset: str
    partition: str
    data_version: str
    fingerprint: str


@dataclass(frozen=True)
class CandidateEntry:
    """A candidate as the book has it: open, or switched to."""

    name: str
    at_s: float
    state: str


class BackfillBook:
    """Backfills and candidates of a home, safe for several processes.

    Args:
        folder: where the file lies, with a lock for each backfill that runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._of_thread = threading.local()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._connection() as connection:
                connection.execute("pragma journal_mode=wal")
                connection.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise HomeError(
                f"the book of backfills in {folder} cannot be used: {error}. Give the user of this process the right "
                "to write there; or, if the file is broken, remove it: values stay, candidates are forgotten"
            ) from error

    def begin(self, ordered: Ordered) -> int:
        """Write down a new backfill; its number."""
        with self._connection() as connection:
            row = connection.execute(
                "insert into backfills (ordered, at_s) values (?,?) returning id",
                (json.dumps(asdict(ordered), sort_keys=True), time.time()),
            ).fetchone()
        return int(row[0])

    def reopen(self, backfill: int) -> None:
        """Take back that a backfill ended or is to be cancelled, and forget what had failed."""
        with self._connection() as connection:
            connection.execute("update backfills set state=?, cancel=0 where id=?", (OPEN, backfill))
            connection.execute("delete from done where backfill=? and kind='failed'", (backfill,))

    def end(self, backfill: int, state: str, seconds: float) -> None:
        with self._connection() as connection:
            connection.execute(
                "update backfills set state=?, seconds=seconds+? where id=?", (state, seconds, backfill)
            )

    def plan(self, backfill: int, partitions: int, seconds: float) -> None:
        """Note what is left to do, before a run of a backfill."""
        with self._connection() as connection:
            connection.execute(
                "update backfills set planned=max(planned, ?), left_partitions=?, left_s=? where id=?",
                (partitions, partitions, seconds, backfill),
            )

    def ran(self, backfill: int, run_id: str, partitions: int) -> None:
        with self._connection() as connection:
            connection.execute(
                "insert or replace into runs values (?,?,?,?)", (backfill, run_id, partitions, time.time())
            )

    def note(self, backfill: int, asset: str, partition: str, kind: str, note: str = "") -> None:
        """Note what became of a partition; what was computed is so, also where it is found again later."""
        with self._connection() as connection:
            connection.execute(
                "insert into done values (?,?,?,?,?) on conflict do update set kind=excluded.kind, note=excluded.note "
                "where not (kind='computed' and excluded.kind='reused')",
                (backfill, asset, partition, kind, note),
            )

    def done(self, backfill: int, *kinds: str) -> dict[str, dict[str, str]]:
        """The notes of a backfill's partitions of some kinds, by asset and partition."""
        marks = ",".join("?" * len(kinds))
        found: dict[str, dict[str, str]] = {}
        with self._connection() as connection:
            for asset, partition, note in connection.execute(
                f"select asset, partition, note from done where backfill=? and kind in ({marks}) order by 1, 2",
                (backfill, *kinds),
            ):
                found.setdefault(asset, {})[partition] = note
        return found

    def ask_cancel(self, backfill: int) -> None:
        with self._connection() as connection:
            connection.execute("update backfills set cancel=1 where id=?", (backfill,))

    def is_cancelled(self, backfill: int) -> bool:
        with self._connection() as connection:
            row = connection.execute("select cancel from backfills where id=?", (backfill,)).fetchone()
        return bool(row and row[0])

    def backfills(self) -> list[Backfill]:
        """All backfills, the earliest first."""
        with self._connection() as connection:
            rows = connection.execute("select * from backfills order by id").fetchall()
        return [self._of_row(row) for row in rows]

    def backfill(self, number: int) -> Backfill:
        """The backfill of a number.

        Raises:
            PlatformError: there is none.
        """
        with self._connection() as connection:
            row = connection.execute("select * from backfills where id=?", (number,)).fetchone()
        if row is None:
            raise PlatformError(
                f"there is no backfill {number}; `my-platform backfill --list` shows which there are"
            )
        return self._of_row(row)

    @contextlib.contextmanager
    def running(self, backfill: int) -> Iterator[bool]:
        """Held while a backfill runs, by one process at a time; False where another holds it.

        The kernel releases it when its holder dies.
        """
        with open(self.folder / f"{backfill}.lock", "a") as file:
            for left in reversed(range(_MOST_LOOKS)):
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                # Whoever only looks whether it runs holds it for a moment, too.
                time.sleep(_LOOK_S if left else 0)
            else:
                yield False
                return
            yield True

    @contextlib.contextmanager
    def taken_up(self, ordered: Ordered) -> Iterator[int]:
        """The number of a backfill for an order, held: of one for the same that did not end, or of a new one."""
        with contextlib.ExitStack() as held:
            with locked(self.folder / "take.lock"):
                number = next(
                    (
                        found.id
                        for found in reversed(self.backfills())
                        if found.state in (OPEN, CANCELLED)
                        and found.ordered.same_work(ordered)
                        and held.enter_context(self.running(found.id))
                    ),
                    None,
                )
                if number is None:
                    number = self.begin(ordered)
                    held.enter_context(self.running(number))
            yield number

    def is_running(self, backfill: int) -> bool:
        with self.running(backfill) as free:
            return not free

    def open_candidate(self, name: str) -> None:
        """Write down a candidate, or take up one that was there; one that was switched to begins anew."""
        with self._connection() as connection:
            row = connection.execute("select state from candidates where name=?", (name,)).fetchone()
            if row is not None and row[0] == SWITCHED:
                self._forget(connection, name)
            connection.execute(
                "insert into candidates (name, at_s) values (?,?) on conflict do nothing", (name, time.time())
            )

    def candidates(self) -> list[CandidateEntry]:
        with self._connection() as connection:
            rows = connection.execute("select name, at_s, state from candidates order by at_s, name")
            return [CandidateEntry(*row) for row in rows]

    def candidate(self, name: str) -> CandidateEntry:
        """The candidate of a name.

        Raises:
            PlatformError: there is none.
        """
        found = {each.name: each for each in self.candidates()}
        if name not in found:
            known = ", ".join(found) or "none"
            raise PlatformError(
                f"there is no candidate {name}, there is {known}; `my-platform backfill ASSET --as NAME` makes one"
            )
        return found[name]

    def hold(self, name: str, values: Iterable[Held], made: Iterable[Held]) -> None:
        """Note the values that a candidate has now, and those among them that were computed for it."""
        with self._connection() as connection:
            connection.executemany(
                "insert or replace into held values (?,?,?,?,?)",
                [(name, v.asset, v.partition, v.data_version, v.fingerprint) for v in values],
            )
            connection.executemany(
                "insert or ignore into made values (?,?,?,?)",
                [(name, v.asset, v.partition, v.fingerprint) for v in made],
            )

    def held(self, name: str, assets: Sequence[str] | None = None) -> list[Held]:
        """The values that a candidate has now; of some assets, or of all."""
        some = "" if assets is None else f"and asset in ({','.join('?' * len(assets))})"
        with self._connection() as connection:
            rows = connection.execute(
                f"select asset, partition, data_version, fingerprint from held where candidate=? {some} order by 1, 2",
                (name, *(assets or ())),
            )
            return [Held(*row) for row in rows]

    def fingerprint(self, name: str, asset: str, partition: str) -> str | None:
        """The fingerprint of a candidate's value; empty where it has none any more, None where it never had one."""
        with self._connection() as connection:
            row = connection.execute(
                "select fingerprint from held where candidate=? and asset=? and partition=?",
                (name, asset, partition),
            ).fetchone()
        return str(row[0]) if row else None

    def made_for(self, name: str) -> list[tuple[str, str, str]]:
        """Asset, partition and fingerprint of all that was computed for a candidate."""
        with self._connection() as connection:
            rows = connection.execute(
                "select asset, partition, fingerprint from made where candidate=? order by 1, 2, 3", (name,)
            )
            return [tuple(row) for row in rows]

    def switch(self, name: str) -> None:
        """Note that a candidate's values have become current."""
        with self._connection() as connection:
            connection.execute("update candidates set state=? where name=?", (SWITCHED, name))

    def forget(self, name: str) -> None:
        with self._connection() as connection:
            self._forget(connection, name)

    def _forget(self, connection: sqlite3.Connection, name: str) -> None:
        for table, column in (("held", "candidate"), ("made", "candidate"), ("candidates", "name")):
            connection.execute(f"delete from {table} where {column}=?", (name,))

    def _of_row(self, row: Any) -> Backfill:
        number, text, at_s, state, cancel, planned, seconds, left_s, left = row
        stored = json.loads(text)
        ordered = Ordered(**{**stored, "assets": tuple(stored["assets"])})
        with self._connection() as connection:
            runs = tuple(
                run
                for (run,) in connection.execute(
                    "select run_id from runs where backfill=? order by at_s", (number,)
                )
            )
            counts = dict(
                connection.execute(
                    "select kind, count(*) from done where backfill=? group by kind order by kind", (number,)
                ).fetchall()
            )
        return Backfill(
            number, ordered, at_s, state, bool(cancel), planned, seconds, left_s, left, runs, counts
        )

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A transaction on this thread's connection."""
        mine = self._of_thread
        if not hasattr(mine, "connection"):
            mine.connection = sqlite3.connect(self.folder / "book.sqlite", timeout=60)
            mine.connection.execute("pragma synchronous=normal")
        with mine.connection as connection:
            yield connection
