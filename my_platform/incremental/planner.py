"""What is owed, from graph, code versions, heads and traces. Pure: no I/O, no clock, no Dagster.

The planner walks the assets from sources to reports. For each partition k it takes the values of the
inputs as they will be, forms the fingerprint F(k), and decides: fresh, to be reused from a trace, to be
computed, possibly to be computed once a parent's new value is known, waiting, refused, or to be withdrawn.
Cost is a few microseconds a partition: the versions of an asset lie side by side in one buffer, so the
inputs of any window are one slice of it.

The scheme follows "constructive traces" of Mokhov, Mitchell, Peyton Jones: Build Systems à la Carte
(2018), with immediate inputs only, which gives early cutoff.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import xxhash

from my_platform.errors import PlatformError
from my_platform.incremental.declare import Grain, Read, day_key

SCHEME = b"my_platform/fingerprint/1"
NO_VERSION = bytes(16)
WEEK = 7
# 1969-12-31. Where there is no partition yet, weeks are counted from it, so that windows hold as many.
_WEDNESDAY = -1


class Action(Enum):
    """What a refresh does with a partition that is not fresh."""

    COMPUTE = "compute"
    """Its inputs are final and its fingerprint has no trace."""
    REUSE = "reuse"
    """Its fingerprint has a trace that names another version than the head: the head is set to it."""
    LATER = "later"
    """It will be computed for certain, after parents that are computed first."""
    POSSIBLE = "possible"
    """It is computed only if a parent comes out changed."""
    WITHDRAW = "withdraw"
    """It has a head but no longer the inputs that it needs."""
    WAITING = "waiting"
    """Inputs that it needs have not landed."""
    REFUSED = "refused"
    """Its function refused these inputs before; the head stays as it is."""


@dataclass(frozen=True)
class Node:
    """An asset as the planner sees it.

    Attributes:
        code: code version and parameters together.
        wanted: the source whose partitions say which of the asset's own are wanted; empty where all are. It is no
            input: a partition has the same fingerprint and value whoever wanted it.
    """

    name: str
    grain: Grain
    reads: tuple[tuple[str, Read], ...] = ()
    code: str = ""
    wanted: str = ""


@dataclass(frozen=True)
class Entry:
    """A partition that is not fresh: what is done with it.

    ``fingerprint`` and ``version`` are hexadecimal; ``accepted`` says that the fingerprint is over the
    inputs that were accepted last, because the present ones were refused.
    """

    asset: str
    key: int
    action: Action
    fingerprint: str = ""
    version: str = ""
    reason: str = ""
    accepted: bool = False


@dataclass(frozen=True)
class Past:
    """What is known of an asset: heads and traces.

    Attributes:
        heads: 16-byte data version by partition.
        traces: 16-byte data version by 16-byte fingerprint.
        coded: partitions with a trace under the present code.
        refusals: reasons by fingerprint.
        accepted: for partitions that were refused before: the input versions that made their head.
        alike: for those, other input versions that gave the same value. Back at one of them a partition is fresh
            without an event that says so, and they are the ones that were accepted last.
    """

    heads: Mapping[int, bytes] = field(default_factory=dict)
    traces: Mapping[bytes, bytes] = field(default_factory=dict)
    coded: frozenset[int] = frozenset()
    refusals: Mapping[bytes, str] = field(default_factory=dict)
    accepted: Mapping[int, Mapping[tuple[str, int], bytes]] = field(default_factory=dict)
    alike: Mapping[int, Sequence[Mapping[tuple[str, int], bytes]]] = field(default_factory=dict)


class State:
    """The partitions of an asset side by side: their versions, which exist, which are not known yet."""

    def __init__(self, grain: Grain, base: int, slots: int) -> None:
        self.grain = grain
        self.step = WEEK if grain is Grain.WEEK else 1
        self.base = base
        self.versions = np.zeros((slots, 16), dtype=np.uint8)
        self.present = np.zeros(slots, dtype=bool)
        self.pending = np.zeros(slots, dtype=bool)
        self._padded: dict[tuple[int, int], memoryview] = {}

    @classmethod
    def of(cls, grain: Grain, values: Mapping[int, bytes]) -> "State":
        """The state of partitions whose versions are known; for sources, and for assets used as they are."""
        keys = sorted(values)
        base = keys[0] if keys else _origin(grain)
        step = WEEK if grain is Grain.WEEK else 1
        state = cls(grain, base, (keys[-1] - base) // step + 1 if keys else 0)
        for key in keys:
            state.set(key, values[key])
        return state

    def __len__(self) -> int:
        return len(self.present)

    def slot(self, key: int) -> int:
        return (key - self.base) // self.step

    def set(self, key: int, version: bytes | None, *, pending: bool = False) -> None:
        slot = self.slot(key)
        self.versions[slot] = np.frombuffer(version or NO_VERSION, dtype=np.uint8)
        self.present[slot] = pending or version is not None
        self.pending[slot] = pending
        self._padded.clear()

    def get(self, key: int) -> bytes | None:
        slot = self.slot(key)
        if not 0 <= slot < len(self) or not self.present[slot] or self.pending[slot]:
            return None
        version = self.versions[slot].tobytes()
        return version if version != NO_VERSION else None

    def same_as(self, key: int) -> Iterator[int]:
        """The other partitions that have the version of a partition."""
        slot = self.slot(key)
        equal = (self.versions == self.versions[slot]).all(axis=1) & self.present & ~self.pending
        for other in np.flatnonzero(equal):
            if other != slot:
                yield self.base + int(other) * self.step

    def keys(self) -> Iterator[int]:
        """Partitions that exist or will."""
        for slot in np.flatnonzero(self.present):
            yield self.base + int(slot) * self.step

    @property
    def first_slot(self) -> int:
        """The first partition that exists; past the end where there is none."""
        return int(np.argmax(self.present)) if self.present.any() else len(self)

    def span(self, keys: np.ndarray, read: Read) -> tuple[np.ndarray, np.ndarray]:
        """For each reading key, the first slot of its window and the one after its last."""
        if self.grain is Grain.ONCE:
            return np.zeros_like(keys), np.ones_like(keys)
        low = -((self.base - (keys + read.first)) // self.step)
        high = (keys + read.last - self.base) // self.step + 1
        return low, np.maximum(high, low)

    def buffer(self, before: int, after: int) -> memoryview:
        """All versions as bytes, with zeros for that many slots before and after."""
        padded = self._padded.get((before, after))
        if padded is None:
            whole = np.pad(self.versions, ((before, after), (0, 0)))
            padded = self._padded[before, after] = memoryview(whole.tobytes())
        return padded


def plan(
    nodes: Sequence[Node],
    states: dict[str, State],
    past: Callable[[str], Past],
    domain: Callable[[Node], tuple[int, int]],
    allowed: Callable[[Node, int], bool] | None = None,
) -> list[Entry]:
    """Entries for every partition that is not fresh, parents first; ``states`` is filled in on the way.

    Args:
        nodes: the assets, parents before children.
        states: the states of the sources, by name.
        past: heads and traces by asset.
        domain: first and last partition of an asset, both included.
        allowed: partitions that may change; the others are used as they are. None for all.
    """
    entries: list[Entry] = []
    for node in nodes:
        state, found = plan_asset(node, states, past(node.name), *domain(node), allowed)
        states[node.name] = state
        entries.extend(found)
    return entries


def plan_asset(
    node: Node,
    states: Mapping[str, State],
    past: Past,
    first: int,
    last: int,
    allowed: Callable[[Node, int], bool] | None = None,
) -> tuple[State, list[Entry]]:
    """The state of one asset after its parents, and its partitions that are not fresh."""
    step = WEEK if node.grain is Grain.WEEK else 1
    # A head outside of the domain is of a day that is gone from landing: it is seen, to be withdrawn.
    known = [*past.heads, *((first, last) if first <= last else ())]
    base = min(known, default=_origin(node.grain))
    slots = (max(known) - base) // step + 1 if known else 0
    state = State(node.grain, base, slots)
    keys = base + step * np.arange(slots, dtype=np.int64)
    inside = (keys >= first) & (keys <= last)
    windows = _Windows(node, states, keys)
    prefix = _prefix(node)
    entries: list[Entry] = []
    versions, present, pending = state.versions, state.present, state.pending
    ready, outside = (
        (windows.ready & inside & _wanted(node, states, keys)).tolist(),
        (windows.outside | ~inside).tolist(),
    )
    unknown = windows.unknown.tolist()
    new: list[tuple[int, bytes]] = []
    for slot, key in enumerate(keys.tolist()):
        head = past.heads.get(key)
        if allowed is not None and not allowed(node, key):
            if head is not None:
                new.append((slot, head))
            continue
        if not ready[slot]:
            if head is not None:
                entries.append(Entry(node.name, key, Action.WITHDRAW))
            if not outside[slot]:
                entries.append(Entry(node.name, key, Action.WAITING))
            continue
        fingerprint = windows.fingerprint(prefix, key, slot)
        version = past.traces.get(fingerprint)
        if unknown[slot]:
            certain = key not in past.coded
            present[slot] = pending[slot] = True
            if head is not None:
                new.append((slot, head))
            entries.append(Entry(node.name, key, Action.LATER if certain else Action.POSSIBLE))
            continue
        if version is None and fingerprint in past.refusals:
            found = fall_back(node, key, fingerprint, past, states)
            entries.extend(found)
            if found[-1].action is Action.COMPUTE:
                present[slot] = pending[slot] = True
            kept = bytes.fromhex(found[-1].version) or head
            if kept is not None:
                new.append((slot, kept))
            continue
        if version is None:
            entries.append(Entry(node.name, key, Action.COMPUTE, fingerprint.hex()))
            present[slot] = pending[slot] = True
            if head is not None:
                new.append((slot, head))
            continue
        if version != head:
            entries.append(Entry(node.name, key, Action.REUSE, fingerprint.hex(), version.hex()))
        new.append((slot, version))
    if new:
        at = np.fromiter((slot for slot, _ in new), dtype=np.int64, count=len(new))
        versions[at] = np.frombuffer(b"".join(v for _, v in new), dtype=np.uint8).reshape(-1, 16)
        present[at] = True
    return state, entries


def fall_back(
    node: Node, key: int, fingerprint: bytes, past: Past, states: Mapping[str, State]
) -> list[Entry]:
    """What becomes of a partition whose inputs were refused: it keeps to the inputs that were accepted last.

    The refusal comes first; after it, what is done where the code has changed since those were accepted.
    """
    refused = Entry(node.name, key, Action.REFUSED, fingerprint.hex(), reason=past.refusals[fingerprint])
    head, accepted = past.heads.get(key), past.accepted.get(key)
    if head is None or accepted is None:
        return [refused]

    def over(inputs: Mapping[tuple[str, int], bytes]) -> bytes:
        kept = {}
        for _, read in node.reads:
            values = {k: v for (asset, k), v in inputs.items() if asset == read.asset}
            kept[read.asset] = State.of(states[read.asset].grain, values)
        return _Windows(node, kept, np.array([key], dtype=np.int64)).fingerprint(_prefix(node), key, 0)

    if any(over(inputs) == fingerprint for inputs in past.alike.get(key, ())):
        return [refused]
    old = over(accepted)
    version = past.traces.get(old)
    if version is None and old not in past.refusals:
        return [refused, Entry(node.name, key, Action.COMPUTE, old.hex(), accepted=True)]
    if version is not None and version != head:
        return [refused, Entry(node.name, key, Action.REUSE, old.hex(), version.hex(), accepted=True)]
    return [refused]


def fingerprint_of(node: Node, key: int, states: Mapping[str, State]) -> str:
    """F(k) over the present values of the inputs, hexadecimal."""
    windows = _Windows(node, states, np.array([key], dtype=np.int64))
    return windows.fingerprint(_prefix(node), key, 0).hex()


def inputs_of(node: Node, key: int, states: Mapping[str, State]) -> dict[str, dict[int, bytes]]:
    """By read: the versions of the input partitions that are there, by partition."""
    found: dict[str, dict[int, bytes]] = {}
    for name, read in node.reads:
        found[name] = {}
        for parent_key in window_keys(read, states[read.asset], key):
            version = states[read.asset].get(parent_key)
            if version is not None:
                found[name][parent_key] = version
    return found


def window_keys(read: Read, parent: State, key: int) -> list[int]:
    """The partitions of a read's window, whether they exist or not."""
    low, high = parent.span(np.array([key], dtype=np.int64), read)
    return [parent.base + slot * parent.step for slot in range(int(low[0]), int(high[0]))]


def missing_inputs(node: Node, key: int, states: Mapping[str, State]) -> list[tuple[str, int]]:
    """Input partitions that a waiting partition waits for, or that a reader passes over: (asset, partition)."""
    missing = []
    for _, read in node.reads:
        parent = states[read.asset]
        start = _first_key(parent)
        keys = window_keys(read, parent, key)
        there = [k for k in keys if 0 <= parent.slot(k) < len(parent) and parent.present[parent.slot(k)]]
        if len(there) < read.at_least or read.gaps == "wait":
            gone = [k for k in keys if k not in set(there)]
            after_start = [k for k in gone if start is not None and k >= start]
            missing += [
                (read.asset, k) for k in (after_start or (gone if len(there) < read.at_least else []))
            ]
    return missing


def waits_for(node: Node, key: int, states: Mapping[str, State]) -> str:
    """What a partition waits for, in words."""
    missing = missing_inputs(node, key, states)
    for _, read in node.reads:
        parent = states[read.asset]
        keys = window_keys(read, parent, key)
        there = [k for k in keys if 0 <= parent.slot(k) < len(parent) and parent.present[parent.slot(k)]]
        start = _first_key(parent)
        gone = [k for asset, k in missing if asset == read.asset]
        early = start is not None and all(k < start for k in gone)
        if len(there) < read.at_least and len(keys) > 1 and early:
            return f"needs {read.at_least} partitions of {read.asset}, of which there are {len(there)} in its window"
    names = [partition_name(asset, states[asset].grain, k) for asset, k in dict.fromkeys(missing)]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    if not names and node.wanted and states[node.wanted].get(key) is None:
        if max(states[node.wanted].keys(), default=key) > key:
            return "is left out by the retraining policy: a later week was fitted"
        return (
            "waits for the retraining policy: not decided yet; `my-platform retrain --dry-run` says why not"
        )
    return f"waits for {', '.join(names[:3])}{more}" if names else "is outside of what has landed"


def passed_over(node: Node, key: int, states: Mapping[str, State]) -> list[tuple[str, int]]:
    """Partitions from an input's first one on that are missing from the window of a read that passes gaps."""
    gaps = []
    for _, read in node.reads:
        if read.gaps == "optional":
            continue
        parent = states[read.asset]
        start = _first_key(parent)
        for k in window_keys(read, parent, key):
            slot = parent.slot(k)
            if start is not None and k >= start and not (0 <= slot < len(parent) and parent.present[slot]):
                gaps.append((read.asset, k))
    return gaps


def _first_key(state: State) -> int | None:
    """The first partition that exists."""
    return next(state.keys(), None)


def in_order(nodes: Mapping[str, Node]) -> list[Node]:
    """The assets, parents before children, otherwise by name.

    Raises:
        PlatformError: the assets depend on each other in a circle, or read an asset that is not there.
    """
    done: dict[str, bool] = {}
    order: list[Node] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise PlatformError(
                f"assets depend on each other: {' -> '.join([*path[path.index(name) :], name])}"
            )
        if name in done or name not in nodes:
            return
        for _, read in sorted(nodes[name].reads, key=lambda item: item[1].asset):
            visit(read.asset, (*path, name))
        done[name] = True
        order.append(nodes[name])

    for name in sorted(nodes):
        visit(name, ())
    return order


class _Windows:
    """The windows of all partitions of an asset over its inputs, counted at once."""

    def __init__(self, node: Node, states: Mapping[str, State], keys: np.ndarray) -> None:
        self.ready = np.ones(len(keys), dtype=bool)
        self.outside = np.zeros(len(keys), dtype=bool)
        self.unknown = np.zeros(len(keys), dtype=bool)
        self._slices: list[tuple[bytes, memoryview, list[int], list[int]]] = []
        for name, read in node.reads:
            parent = states[read.asset]
            low, high = parent.span(keys, read)
            there = _count(parent.present, low, high)
            start = parent.first_slot
            enough = there >= read.at_least
            if read.gaps == "wait":
                clipped = np.maximum(low, start) if parent.present.any() else high
                enough &= there >= np.maximum(high - clipped, 0)
            self.ready &= enough
            if read.at_least:
                self.outside |= (high <= start) if parent.present.any() else True
            self.unknown |= _count(parent.pending, low, high) > 0
            before = max(0, -int(low.min())) if len(keys) else 0
            after = max(0, int(high.max()) - len(parent)) if len(keys) else 0
            header = _delimited(name, read.asset, str(read.first), str(read.last))
            self._slices.append(
                (
                    header,
                    parent.buffer(before, after),
                    ((low + before) * 16).tolist(),
                    ((high + before) * 16).tolist(),
                )
            )

    def fingerprint(self, prefix: bytes, key: int, slot: int) -> bytes:
        parts: list[bytes | memoryview] = [prefix, struct.pack("<q", key)]
        for header, buffer, low, high in self._slices:
            parts.append(header)
            parts.append(buffer[low[slot] : high[slot]])
        return xxhash.xxh3_128_digest(b"".join(parts))


def _wanted(node: Node, states: Mapping[str, State], keys: np.ndarray) -> np.ndarray:
    """Which partitions somebody has decided to have, where that has to be decided."""
    if not node.wanted:
        return np.ones(len(keys), dtype=bool)
    there = states[node.wanted]
    return np.array([there.get(key) is not None for key in keys.tolist()], dtype=bool)


def _count(flags: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    total = np.concatenate([[0], np.cumsum(flags)])
    return total[np.clip(high, 0, len(flags))] - total[np.clip(low, 0, len(flags))]


def _origin(grain: Grain) -> int:
    return _WEDNESDAY if grain is Grain.WEEK else 0


def _prefix(node: Node) -> bytes:
    return SCHEME + _delimited(node.name, node.grain.value, node.code, str(len(node.reads)))


def _delimited(*texts: str) -> bytes:
    return b"".join(struct.pack("<Q", len(data)) + data for data in (text.encode() for text in texts))


def partition_name(asset: str, grain: Grain, key: int) -> str:
    """Asset and partition as a person writes them."""
    return asset if grain is Grain.ONCE else f"{asset} {day_key(key)}"
