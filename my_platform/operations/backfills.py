"""Backfills: what is owed of some assets and days, piece by piece, so that it can be watched, ended and gone on with.

What is done is decided anew before each piece, from what is stored and current: that a backfill was killed,
that another one works on the same days, or that a day landed meanwhile needs no rule of its own.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from my_platform.errors import PlatformError
from my_platform.incremental.planner import Entry, Node
from my_platform.operations.backfill_job import BACKFILL_TAG, COVERS_TAG, Piece, backfill_job, covers, launch
from my_platform.operations.backfill_scope import (
    allowed_by,
    heads_of,
    left_undone,
    named_by,
    refused,
    waiting,
)
from my_platform.operations.candidates import CANDIDATE_TAG
from my_platform.operations.chunks import cut, in_turn, seconds_of
from my_platform.operations.confirmation import Place as Partition
from my_platform.operations.confirmation import confirm, there
from my_platform.operations.heads import DagsterHeads
from my_platform.operations.home import place_of
from my_platform.operations.orphans import end_orphans
from my_platform.operations.outcome import Outcome
from my_platform.operations.refresh import Planned, bring_up_to_date, look_ahead
from my_platform.operations.session import Session
from my_platform.operations.stopping import Stop
from my_platform.storage.backfill_book import (
    CANCELLED,
    DONE,
    FAILED,
    OPEN,
    Backfill,
    BackfillBook,
    Ordered,
)
from my_platform.storage.lake import partition_key

_KINDS = ("computed", "reused", "withdrawn", "confirmed", "differs", "failed")
# Where nothing bounds the partitions that are computed again in one run.
_MOST_CONFIRMED = 100


@dataclass(frozen=True)
class Watch:
    """Who is told how a backfill goes.

    Attributes:
        on_plan: told before each piece how many partitions and seconds are left.
        on_partition: told of each partition as it is done.
    """

    on_plan: Callable[[int, float], None] = lambda _partitions, _seconds: None
    on_partition: Callable[[str, str, str], None] = lambda _asset, _partition, _kind: None


@dataclass
class Ended:
    """How a backfill ended, with what its present call left undone."""

    backfill: Backfill
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    differs: dict[str, dict[str, str]] = field(default_factory=dict)
    waiting: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """What somebody has to see to, in words."""
        return [
            reason
            for found in (self.failed, self.differs)
            for reasons in found.values()
            for reason in reasons.values()
        ]

    def as_json(self) -> dict[str, Any]:
        """The shape that the command line prints."""
        return {
            **status(self.backfill, running=False),
            "failed": self.failed,
            "differs": self.differs,
            "waiting": self.waiting,
        }


def status(backfill: Backfill, *, running: bool) -> dict[str, Any]:
    """A backfill in the shape that the command line prints. An open one that does not run was interrupted."""
    ordered = backfill.ordered
    state = "running" if running else "interrupted" if backfill.state == OPEN else backfill.state
    return {
        "id": backfill.id,
        "state": state,
        "assets": list(ordered.assets),
        "from": ordered.first or None,
        "through": ordered.through or None,
        "force": ordered.force,
        "as": ordered.candidate or None,
        "at": datetime.fromtimestamp(backfill.at_s, UTC).isoformat(timespec="seconds"),
        "planned": backfill.planned,
        **{kind: backfill.counts.get(kind, 0) for kind in _KINDS if kind not in ("failed", "differs")},
        "problems": backfill.counts.get("failed", 0) + backfill.counts.get("differs", 0),
        "left": {"partitions": backfill.left, "seconds": round(backfill.left_s, 1)},
        "runs": list(backfill.runs),
        "seconds": round(backfill.seconds, 3),
    }


def cancel(book: BackfillBook, number: int) -> Backfill:
    """Have a backfill end after the partition that is under way; one that does not run is cancelled at once."""
    found = book.backfill(number)
    if found.state in (DONE, FAILED):
        raise PlatformError(
            f"backfill {number} has ended ({found.state}); there is nothing of it left to cancel"
        )
    book.ask_cancel(number)
    with book.running(number) as free:
        if free:
            book.end(number, CANCELLED, 0.0)
    return book.backfill(number)


def backfill(
    session: Session, book: BackfillBook, what: Ordered | int, watch: Watch, *, chunk: int | None = None
) -> Ended:
    """Do what is owed of a backfill, until nothing is or somebody wants it to end.

    Args:
        what: an order, which goes on with a backfill for the same that did not come to its end; or a number.
        chunk: the most partitions of a run, where that is another one than ordered.

    Raises:
        PlatformError: another process is at it, it is for assets that there are not, or a run broke off.
    """
    if isinstance(what, Ordered):
        with book.taken_up(what) as number:
            return _go_on(session, book, number, watch, chunk)
    number = book.backfill(what).id
    with book.running(number) as free:
        if not free:
            raise PlatformError(
                f"backfill {number} runs in another process; `my-platform backfill --status {number}` tells how far it is"
            )
        return _go_on(session, book, number, watch, chunk)


def _go_on(session: Session, book: BackfillBook, number: int, watch: Watch, chunk: int | None) -> Ended:
    ordered = book.backfill(number).ordered
    _check(session, ordered)
    book.reopen(number)
    if ordered.candidate:
        book.open_candidate(ordered.candidate)
    end_orphans(session.instance)
    stop = Stop(lambda: book.is_cancelled(number))
    work = Work(session, book, number, ordered, chunk or ordered.chunk, watch, stop)
    with stop.listening(), work.timed() as ended:
        if session.settings.profile == "cluster":
            from my_platform.operations.over_workers import compute_over_workers

            compute_over_workers(work, ended)
        else:
            work.compute(ended)
        if ordered.force:
            work.confirm()
    ended.failed |= book.done(number, "failed")
    ended.differs = book.done(number, "differs")
    ended.backfill = book.backfill(number)
    return ended


class Work:
    """A backfill that is under way."""

    def __init__(
        self,
        session: Session,
        book: BackfillBook,
        number: int,
        ordered: Ordered,
        chunk: int | None,
        watch: Watch,
        stop: Stop,
    ) -> None:
        self.session = session
        self.workspace = session.workspace
        self.book = book
        self.number = number
        self.ordered = ordered
        self.chunk = chunk
        self.watch = watch
        self.stop = stop
        self.heads = heads_of(session.heads, book, ordered)
        self.job = backfill_job(session.workspace, place_of(session.settings))

    @contextmanager
    def timed(self) -> Iterator[Ended]:
        """Write down how it ended; where it broke off it stays open."""
        started = time.monotonic()
        ended = Ended(self.book.backfill(self.number))
        state = OPEN
        try:
            yield ended
            bad = ended.failed or self.book.done(self.number, "failed", "differs")
            state = CANCELLED if self.stop() else FAILED if bad else DONE
        finally:
            self.book.end(self.number, state, time.monotonic() - started)

    def compute(self, ended: Ended) -> None:
        """Compute what is owed, piece by piece; what could not be is not tried twice."""
        allowed = allowed_by(self.workspace, self.ordered)
        tried: set[tuple[str, int]] = set()
        while True:
            seconds = seconds_of(self.workspace)
            planned, todo = self.look(allowed, tried, seconds)
            if not todo or self.stop():
                break
            piece = cut(todo, seconds, self.chunk)
            outcome = self.run([(entry.asset, entry.key) for entry in piece])
            if not self.stop():
                tried |= left_undone(self.workspace, piece, outcome)
        ended.waiting = waiting(self.workspace, self.heads, planned, allowed)
        ended.failed = refused(self.workspace, planned)

    def look(
        self,
        allowed: Callable[[Node, int], bool],
        tried: Collection[tuple[str, int]],
        seconds: Callable[[Entry], float | None],
    ) -> tuple[Planned, list[Entry]]:
        """The plan as it is now, and what is left to do of it in turn; what it will take is told."""
        planned = look_ahead(self.workspace, self.heads, allowed)
        whole = in_turn(self.workspace.project, planned)
        todo = [entry for entry in whole if (entry.asset, entry.key) not in tried]
        left_s = sum(seconds(entry) or 0.0 for entry in todo)
        self.book.plan(self.number, len(todo), left_s)
        if todo and not self.stop():
            self.watch.on_plan(len(todo), left_s)
        return planned, todo

    def confirm(self) -> None:
        """Compute again what was there before; what was found is written down, so that it is done once."""
        done = self.book.done(self.number, "computed", "confirmed", "differs")
        todo = [
            (asset, partition)
            for asset, partition in there(self.workspace, self.heads, named_by(self.workspace, self.ordered))
            if partition not in done.get(asset, {})
        ]
        most = self.chunk or _MOST_CONFIRMED
        while todo and not self.stop():
            self.watch.on_plan(len(todo), 0.0)
            self._run_again(todo[:most])
            todo = todo[most:]

    def run(self, places: Sequence[tuple[str, int]]) -> Outcome:
        """A Dagster run in this process that computes what is owed of some partitions."""
        named = set(places)
        found = Outcome()

        def allowed(node: Node, key: int) -> bool:
            return (node.name, key) in named

        def do(heads: DagsterHeads, run_id: str, log: Callable[[str], None]) -> Outcome:
            self.book.ran(self.number, run_id, len(places))
            outcome = bring_up_to_date(
                self.workspace,
                heads_of(heads, self.book, self.ordered),
                allowed,
                run_id=run_id,
                on_partition=self._note,
                log=log,
                stop=self.stop,
                aside=bool(self.ordered.candidate),
            )
            found.add(outcome)
            for asset, partitions in outcome.withdrawn.items():
                for partition in partitions:
                    self._note(asset, partition, "withdrawn")
            for asset, reasons in outcome.failed.items():
                for partition, reason in reasons.items():
                    self.book.note(self.number, asset, partition, "failed", reason)
            return outcome

        launch(
            self.job, self.session.instance, Piece(do, not self.ordered.candidate, self._tags(places)), found
        )
        return found

    def _run_again(self, places: Sequence[Partition]) -> None:
        """A Dagster run that computes stored values again."""
        found = Outcome()

        def do(heads: DagsterHeads, run_id: str, _log: Callable[[str], None]) -> Outcome:
            self.book.ran(self.number, run_id, len(places))
            for each in confirm(self.workspace, heads_of(heads, self.book, self.ordered), places, self.stop):
                about = {
                    "confirmed": not each.problem,
                    "fingerprint": each.fingerprint,
                    "data_version": each.stored,
                    "computed_again": each.found,
                    **({"problem": each.problem} if each.problem else {}),
                }
                heads.observe(each.asset, each.partition, about, self._tags())
                kind = "differs" if each.problem else "confirmed"
                self._note(each.asset, each.partition, kind, each.problem)
                if each.problem:
                    found.failed.setdefault(each.asset, {})[each.partition] = each.problem
            return found

        launch(self.job, self.session.instance, Piece(do, False, self._tags()), found)

    def _note(self, asset: str, partition: str, kind: str, note: str = "") -> None:
        self.book.note(self.number, asset, partition, kind, note)
        self.watch.on_partition(asset, partition, kind)

    def _tags(self, places: Sequence[tuple[str, int]] = ()) -> dict[str, str]:
        tags = {BACKFILL_TAG: str(self.number)}
        if self.ordered.candidate:
            return tags | {CANDIDATE_TAG: self.ordered.candidate}
        if places:
            assets = self.workspace.project.assets
            keys = [partition_key(assets[asset].grain, key) for asset, key in places]
            tags[COVERS_TAG] = covers(list({asset for asset, _ in places}), min(keys), max(keys))
        return tags


def _check(session: Session, ordered: Ordered) -> None:
    unknown = sorted(set(ordered.assets) - session.workspace.project.assets.keys())
    if unknown:
        raise PlatformError(
            f"{', '.join(unknown)} is no asset of this checkout; there are "
            f"{', '.join(sorted(session.workspace.project.assets))}"
        )
