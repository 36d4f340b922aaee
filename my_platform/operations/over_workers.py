"""A backfill that is spread over the workers of a Ray cluster."""

from collections import Counter

import dagster as dg

from my_platform.operations.backfill_scope import allowed_by, left_undone, partition_of, refused, waiting
from my_platform.operations.backfills import Ended, Work
from my_platform.operations.chunks import seconds_of
from my_platform.operations.orphans import end_orphans
from my_platform.operations.outcome import Outcome
from my_platform.operations.ray_workers import Fleet, check_losses
from my_platform.operations.spread import Chunk, Spread, chunk_seconds

_LOOK_S = 0.5


def compute_over_workers(work: Work, ended: Ended) -> None:
    """Compute what is owed, chunk by chunk on many workers; what could not be is not tried twice.

    The plan is made anew when all chunks of one have ended. A chunk whose worker was lost is done by another one,
    which finds what was committed of it.

    Raises:
        PlatformError: the cluster cannot be reached or lacks what is needed, a run broke off, or workers are lost
            again and again.
    """
    allowed = allowed_by(work.workspace, work.ordered)
    tried: set[tuple[str, int]] = set()
    planned, todo = work.look(allowed, tried, seconds_of(work.workspace))
    if todo and not work.stop():
        with Fleet(work.session.settings, work.number) as fleet:
            while todo and not work.stop():
                spread = Spread(work.workspace.project, planned, todo, _limits(work.session.instance))
                tried |= _hand_out(work, fleet, spread)
                planned, todo = work.look(allowed, tried, seconds_of(work.workspace))
    ended.waiting = waiting(work.workspace, work.heads, planned, allowed)
    ended.failed = refused(work.workspace, planned)


def _hand_out(work: Work, fleet: Fleet, spread: Spread) -> set[tuple[str, int]]:
    """Have the workers do a plan; what they left undone of it."""
    undone: set[tuple[str, int]] = set()
    kinds = sorted({lane.gpus for lane in spread.lanes}, reverse=True)
    for gpus in kinds:
        fleet.provide(gpus)
    losses: Counter[str] = Counter()
    told = False
    while True:
        if work.stop() and not told:
            # The workers ask the book after each partition.
            work.book.ask_cancel(work.number)
            told = True
        if not told:
            _give(work, fleet, spread, kinds)
        if not fleet.is_working and (told or not spread.lanes):
            return undone
        for each in fleet.wait(_LOOK_S):
            if each.outcome is None:
                end_orphans(work.session.instance)
                where = _stopped_at(work, each.chunk)
                losses[where] += 1
                check_losses(losses[where], where, each.lost)
                spread.back(each.chunk)
                continue
            spread.done(each.chunk)
            undone |= left_undone(work.workspace, each.chunk.entries, each.outcome)
            _tell(work, each.outcome)


def _stopped_at(work: Work, chunk: Chunk) -> str:
    """The first partition of a chunk that its worker has not written down as done."""
    done = work.book.done(work.number, "computed", "reused", "withdrawn")
    names = [(entry.asset, partition_of(work.workspace, entry)) for entry in chunk.entries]
    asset, partition = next((n for n in names if n[1] not in done.get(n[0], {})), names[0])
    return f"{asset} {partition}".strip()


def _give(work: Work, fleet: Fleet, spread: Spread, kinds: list[int]) -> None:
    """Give each idle worker a chunk, as long as there is one that can be begun."""
    if not any(fleet.is_idle(gpus) for gpus in kinds):
        return
    seconds = seconds_of(work.workspace)
    chunk_s = chunk_seconds(work.book.backfill(work.number).left_s, fleet.size)
    for gpus in kinds:
        while fleet.is_idle(gpus):
            chunk = spread.take(gpus, seconds, work.chunk, chunk_s)
            if chunk is None:
                break
            fleet.give(chunk)


def _tell(work: Work, outcome: Outcome) -> None:
    """Tell who watches; the worker has written it down already."""
    for kind, found in (("computed", outcome.computed), ("reused", outcome.reused)):
        for asset, partitions in found.items():
            for partition in partitions:
                work.watch.on_partition(asset, partition, kind)


def _limits(instance: dg.DagsterInstance) -> dict[str, int]:
    """How many steps of a pool may run at the same time, where somebody has set it."""
    return {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
