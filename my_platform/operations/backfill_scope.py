"""What an order is about: its partitions and heads, what it would do now, and what it cannot do."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from my_platform.incremental.planner import Action, Entry, Node, waits_for
from my_platform.operations.candidates import CandidateHeads
from my_platform.operations.chunks import cut, in_turn, seconds_of
from my_platform.operations.confirmation import there
from my_platform.operations.heads import DagsterHeads
from my_platform.operations.outcome import Heads, Outcome
from my_platform.operations.platform import Workspace
from my_platform.operations.refresh import Planned, look_ahead, plan_as_it_is
from my_platform.operations.selection import allow
from my_platform.operations.session import Session
from my_platform.storage.backfill_book import BackfillBook, Ordered
from my_platform.storage.lake import partition_key


def estimate(session: Session, book: BackfillBook, ordered: Ordered) -> dict[str, Any]:
    """What a backfill would do now: partitions by asset, seconds, pieces, and what waits; computes nothing."""
    workspace = session.workspace
    heads = heads_of(session.heads, book, ordered)
    allowed = allowed_by(workspace, ordered)
    planned = look_ahead(workspace, heads, allowed)
    todo = in_turn(workspace.project, planned)
    seconds = seconds_of(workspace)
    pieces, left = [], todo
    while left:
        piece = cut(left, seconds, ordered.chunk)
        pieces.append(len(piece))
        left = left[len(piece) :]
    by_asset: dict[str, dict[str, list[str]]] = {}
    for entry in todo:
        kinds = by_asset.setdefault(entry.asset, {})
        kinds.setdefault(entry.action.value, []).append(partition_of(workspace, entry))
    unknown = sorted({entry.asset for entry in todo if seconds(entry) is None})
    again = there(workspace, heads, named_by(workspace, ordered)) if ordered.force else []
    return {
        "assets": by_asset,
        "partitions": len(todo),
        "seconds": round(sum(seconds(entry) or 0.0 for entry in todo), 1),
        "never_computed": unknown,
        "chunks": pieces,
        "computed_again": len(again),
        "waiting": waiting(workspace, heads, planned, allowed),
        "refused": refused(workspace, planned),
    }


def heads_of(current: DagsterHeads, book: BackfillBook, ordered: Ordered) -> Heads:
    """The heads that an order reads and sets: the current ones, or those of its candidate."""
    return CandidateHeads(current, book, ordered.candidate) if ordered.candidate else current


def allowed_by(workspace: Workspace, ordered: Ordered) -> Callable[[Node, int], bool]:
    """A test for the partitions that a backfill is about."""
    first = date.fromisoformat(ordered.first) if ordered.first else None
    through = date.fromisoformat(ordered.through) if ordered.through else None
    found = allow(set(ordered.assets), workspace.project, first, through)
    assert found is not None
    return found


def named_by(workspace: Workspace, ordered: Ordered) -> Callable[[str, int], bool]:
    """The same by the names of assets."""
    allowed, nodes = allowed_by(workspace, ordered), workspace.project.nodes
    return lambda asset, key: allowed(nodes[asset], key)


def partition_of(workspace: Workspace, entry: Entry) -> str:
    """The partition key of an entry."""
    return partition_key(workspace.project.assets[entry.asset].grain, entry.key)


def left_undone(workspace: Workspace, entries: Sequence[Entry], outcome: Outcome) -> set[tuple[str, int]]:
    """Of some entries those that a run neither made current nor withdrew."""
    done = {
        (asset, partition)
        for kind in (outcome.computed, outcome.reused, outcome.withdrawn)
        for asset, partitions in kind.items()
        for partition in partitions
    }
    return {
        (entry.asset, entry.key)
        for entry in entries
        if (entry.asset, partition_of(workspace, entry)) not in done
    }


def waiting(
    workspace: Workspace, heads: Heads, planned: Planned, allowed: Callable[[Node, int], bool]
) -> dict[str, dict[str, str]]:
    """What waits for files, and what cannot be computed because assets that were not selected are owed."""
    nodes = workspace.project.nodes
    found: dict[str, dict[str, str]] = {}
    for entry in planned.entries:
        if entry.action is Action.WAITING:
            reason = waits_for(nodes[entry.asset], entry.key, planned.states)
            found.setdefault(entry.asset, {})[partition_of(workspace, entry)] = reason
    known = {(entry.asset, entry.key) for entry in planned.entries}
    for entry in plan_as_it_is(workspace, heads).entries:
        if (
            entry.action in (Action.COMPUTE, Action.LATER)
            and allowed(nodes[entry.asset], entry.key)
            and (entry.asset, entry.key) not in known
            and planned.states[entry.asset].get(entry.key) is None
        ):
            found.setdefault(entry.asset, {})[partition_of(workspace, entry)] = (
                f"reads what is owed itself and was not selected; select +{entry.asset} to have that done before"
            )
    return found


def refused(workspace: Workspace, planned: Planned) -> dict[str, dict[str, str]]:
    """What was refused before, with the reason."""
    found: dict[str, dict[str, str]] = {}
    for entry in planned.entries:
        if entry.action is Action.REFUSED:
            found.setdefault(entry.asset, {})[partition_of(workspace, entry)] = entry.reason
    return found
