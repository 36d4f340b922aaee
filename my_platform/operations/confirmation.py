"""Computing again what is there, to see that it comes out the same.

The name of a stored value depends on what it was computed from and nothing else, so that computing it again
cannot give another current value. It can only say whether the function is deterministic: where another data
version comes out, that is told, and what is stored stays.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from my_platform.errors import DamagedObject
from my_platform.incremental.content import data_version
from my_platform.incremental.declare import Produced, ordinal
from my_platform.incremental.parts import version_of_parts
from my_platform.incremental.planner import Action, Entry, State, fingerprint_of
from my_platform.operations.batch import InputBatch
from my_platform.operations.inputs import InputMoved, Inputs
from my_platform.operations.outcome import Heads
from my_platform.operations.platform import Workspace
from my_platform.operations.refresh import look_ahead
from my_platform.operations.table_cache import TableCache

Place = tuple[str, str]
"""Asset and partition."""


@dataclass(frozen=True)
class Confirmed:
    """What came out where a stored value was computed again.

    Attributes:
        stored, found: data versions; ``found`` is empty where there is none.
        problem: what is wrong, in words; empty where both are equal.
    """

    asset: str
    partition: str
    fingerprint: str
    stored: str
    found: str = ""
    problem: str = ""


def there(workspace: Workspace, heads: Heads, allowed: Callable[[str, int], bool]) -> list[Place]:
    """The partitions among the allowed ones that are current, and are what their present inputs and code gave."""
    planned = look_ahead(workspace, heads)
    stale = {(entry.asset, entry.key) for entry in planned.entries}
    found = []
    for node in workspace.project.order:
        for partition in sorted(heads.read([node.name])[node.name]):
            key = ordinal(partition)
            if (
                allowed(node.name, key)
                and (node.name, key) not in stale
                and planned.states[node.name].get(key)
            ):
                found.append((node.name, partition))
    return found


def confirm(
    workspace: Workspace, heads: Heads, places: Iterable[Place], stop: Callable[[], bool]
) -> Iterator[Confirmed]:
    """Compute stored values again and compare; nothing is stored and no head is set.

    Partitions whose value is not what the present inputs and code give are left out: they are owed.
    """
    states = look_ahead(workspace, heads, lambda _node, _key: False).states
    current = heads.read([node.name for node in workspace.project.order])
    by_asset: dict[str, list[str]] = {}
    for asset, partition in places:
        by_asset.setdefault(asset, []).append(partition)
    cache = TableCache(workspace.lake, workspace.memory.cached_bytes)
    try:
        for asset, partitions in by_asset.items():
            entries = _entries(workspace, states, asset, partitions, current[asset])
            if entries and not stop():
                yield from _compare(workspace, states, asset, entries, cache, stop)
    finally:
        cache.close()


def _entries(
    workspace: Workspace,
    states: Mapping[str, State],
    asset: str,
    partitions: Iterable[str],
    heads: Mapping[str, str],
) -> dict[str, Entry]:
    node = workspace.project.nodes[asset]
    found = {}
    for partition in partitions:
        key = ordinal(partition)
        fingerprint = fingerprint_of(node, key, states)
        trace = workspace.lake.index.trace(asset, partition, fingerprint)
        if trace is not None and heads.get(partition) == trace.data_version:
            found[partition] = Entry(asset, key, Action.COMPUTE, fingerprint, trace.data_version)
    return found


def _compare(
    workspace: Workspace,
    states: Mapping[str, State],
    asset: str,
    entries: Mapping[str, Entry],
    cache: TableCache,
    stop: Callable[[], bool],
) -> Iterator[Confirmed]:
    inputs = Inputs(workspace, workspace.project.nodes[asset], states, {}, {}, {})
    left = dict(entries)
    try:
        for partition, made in workspace.project.assets[asset].compute(InputBatch(inputs, cache, entries)):
            yield _compared(left.pop(partition), partition, made)
            if stop():
                return
    except Exception as error:
        # One at a time tells whose fault it is.
        for partition, entry in left.items():
            if len(left) == 1:
                yield _compared(entry, partition, error)
            elif not stop():
                yield from _compare(workspace, states, asset, {partition: entry}, cache, stop)


def _compared(entry: Entry, partition: str, made: Produced | Exception) -> Confirmed:
    about = (entry.asset, partition, entry.fingerprint, entry.version)
    named = f"{entry.asset} {partition}".strip()
    if isinstance(made, DamagedObject | InputMoved):
        return Confirmed(*about, problem=f"{named}: {made}")
    if isinstance(made, Exception):
        return Confirmed(
            *about,
            problem=f"{named} is stored as {entry.version[:12]}, but computing it again failed: "
            f"{type(made).__name__}: {made}",
        )
    found = data_version(made.table) if made.parts is None else version_of_parts(made.parts)
    if found == entry.version:
        return Confirmed(*about, found=found)
    return Confirmed(
        *about,
        found=found,
        problem=f"{named} is not deterministic: of the same inputs and code came {entry.version}, which stays, and "
        f"now {found}. Look for a clock, randomness without a seed, or an order that is not fixed in its function",
    )
