"""A backfill in pieces: partitions in an order in which any first part can be computed by itself."""

from collections.abc import Callable, Sequence

from my_platform.incremental.declare import Grain
from my_platform.incremental.planner import Action, Entry, window_keys
from my_platform.operations.platform import Project, Workspace
from my_platform.operations.refresh import Planned

CHUNK_S = 60.0
MOST_PARTITIONS = 1_000
# As long as it is not known what a partition costs.
FIRST_LOOK = 32
# What an event costs, and what is left to do for a value that is stored.
_LEAST_S = 0.015
_OPEN = (Action.COMPUTE, Action.REUSE, Action.WITHDRAW, Action.LATER, Action.POSSIBLE)
_COMPUTED = (Action.COMPUTE, Action.LATER, Action.POSSIBLE)
_BEFORE_ALL = -(10**9)


def in_turn(project: Project, planned: Planned) -> list[Entry]:
    """What is to be done of a plan, so that what an entry reads stands before it; early days first.

    An entry's turn is its own day, or that of the last one that it reads among them: a week that reads the
    days after it comes after those. On one day the parents come first.
    """
    place = {node.name: number for number, node in enumerate(project.order)}
    turns: dict[str, dict[int, int]] = {}
    found: list[tuple[int, int, int, Entry]] = []
    for entry in planned.entries:
        if entry.action not in _OPEN:
            continue
        asset = project.assets[entry.asset]
        turn = _BEFORE_ALL if asset.grain is Grain.ONCE else entry.key
        for read in asset.reads.values():
            of_parent = turns.get(read.asset)
            if of_parent:
                keys = window_keys(read, planned.states[read.asset], entry.key)
                turn = max([turn, *(of_parent[key] for key in keys if key in of_parent)])
        turns.setdefault(entry.asset, {})[entry.key] = turn
        found.append((turn, place[entry.asset], entry.key, entry))
    return [entry for *_, entry in sorted(found, key=lambda each: each[:3])]


def seconds_of(workspace: Workspace) -> Callable[[Entry], float | None]:
    """What an entry will take, by the mean of its asset's computations; None where there were none."""
    means: dict[str, float] = {}

    def seconds(entry: Entry) -> float | None:
        if entry.action not in _COMPUTED:
            return _LEAST_S
        if entry.asset not in means:
            means[entry.asset] = workspace.lake.index.mean_cost(entry.asset)[0]
        mean_s = means[entry.asset]
        return max(mean_s, _LEAST_S) if mean_s else None

    return seconds


def cut(
    entries: Sequence[Entry],
    seconds: Callable[[Entry], float | None],
    most: int | None = None,
    chunk_s: float = CHUNK_S,
) -> list[Entry]:
    """The first entries that make a run: as many as take about a minute, or as many as are wanted.

    Args:
        most: partitions of a run; None where seconds decide.
        chunk_s: how long a run may take.
    """
    if most is not None:
        return list(entries[:most])
    taken: list[Entry] = []
    spent_s, unknown = 0.0, 0
    for entry in entries:
        cost_s = seconds(entry)
        unknown += cost_s is None
        spent_s += cost_s or 0.0
        if taken and (spent_s > chunk_s or unknown > FIRST_LOOK or len(taken) >= MOST_PARTITIONS):
            break
        taken.append(entry)
    return taken
