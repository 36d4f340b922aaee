"""The Dagster runs of a backfill: one for each of its pieces, in the process of the command."""

import contextvars
import json
from collections.abc import Callable
from dataclasses import dataclass

import dagster as dg

from my_platform.errors import PlatformError
from my_platform.operations.assets import (
    Place,
    fail_on_problems,
    name_champion,
    open_for_run,
    retried,
    serve_analysts,
)
from my_platform.operations.heads import DagsterHeads
from my_platform.operations.jobs import executed, why_broken_off
from my_platform.operations.outcome import Outcome
from my_platform.operations.platform import Workspace
from my_platform.operations.priorities import BACKFILL_PRIORITY, PRIORITY_TAG
from my_platform.operations.quality_report import show_quality
from my_platform.operations.refresh import plan_as_it_is
from my_platform.operations.stopping import beside

JOB = "backfill"
BACKFILL_TAG = "my_platform/backfill"
# What the sensor leaves to a backfill that is under way: assets, first and last partition.
COVERS_TAG = "my_platform/covers"


@dataclass(frozen=True)
class Piece:
    """A piece of a backfill.

    Attributes:
        do: does it, with the heads of the run, its id, and what writes to its log.
        moves_heads: whether what it makes becomes current.
        tags: of its run.
    """

    do: Callable[[DagsterHeads, str, Callable[[str], None]], Outcome]
    moves_heads: bool
    tags: dict[str, str]


_piece: contextvars.ContextVar[Piece] = contextvars.ContextVar("piece_of_a_backfill")


def backfill_job(workspace: Workspace, place: Place) -> dg.JobDefinition:
    """The job that runs a piece."""

    @dg.op(name="compute_a_piece", description="Computes what is owed of one piece of a backfill.")
    def compute_a_piece(context: dg.OpExecutionContext) -> None:
        with retried(context):
            _compute(context, workspace, place, _piece.get())

    @dg.job(name=JOB, description="One piece of a backfill from the command line.")
    def backfill() -> None:
        compute_a_piece()

    return backfill


def _compute(context: dg.OpExecutionContext, workspace: Workspace, place: Place, piece: Piece) -> None:
    heads = open_for_run(context, workspace, place)
    outcome = piece.do(heads, context.run_id, context.log.info)
    if piece.moves_heads:
        serve_analysts(context, workspace, heads, place)
        name_champion(context, workspace, heads, place, outcome)
        show_quality(workspace, heads, place.reports, outcome, lambda: plan_as_it_is(workspace, heads))
    fail_on_problems(outcome, waiting=False)


def covers(assets: list[str], first: str, last: str) -> str:
    """The value of the tag that says which partitions a run is about."""
    return json.dumps([sorted(assets), first, last])


def covered(tag: str) -> tuple[list[str], tuple[str, str]]:
    """The assets, and the first and last partition, of such a tag."""
    assets, first, last = json.loads(tag)
    return assets, (first, last)


def launch(job: dg.JobDefinition, instance: dg.DagsterInstance, piece: Piece, outcome: Outcome) -> str:
    """Run a piece beside the main thread; the id of its run.

    Args:
        outcome: what the piece did, which it fills in.

    Raises:
        PlatformError: the run broke off for another reason than a partition that failed.
    """

    def work() -> dg.ExecuteInProcessResult:
        _piece.set(piece)
        return executed(job, instance, {PRIORITY_TAG: str(BACKFILL_PRIORITY), **piece.tags})

    result = beside(work)
    if not result.success and not outcome.failed:
        raise PlatformError(f"run {result.run_id} broke off: {why_broken_off(result)}")
    return result.run_id
