"""Candidates: history rebuilt beside the current one, to be switched to or thrown away.

A candidate has heads of its own, which the book of backfills keeps. Where it has none, the current ones
stand in: so that the planner, which sees both as one, knows what a subgraph under other code still owes. In
Dagster a candidate's values are observations; what is current, and all that reads it, sees nothing of them.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from my_platform.errors import PlatformError
from my_platform.incremental.checks import CheckResult
from my_platform.incremental.declare import ordinal
from my_platform.incremental.planner import Action, Node, State, fingerprint_of
from my_platform.operations.heads import DagsterHeads, asset_key
from my_platform.operations.outcome import Heads
from my_platform.operations.platform import Workspace
from my_platform.operations.refresh import Order, Report, look_ahead, refresh
from my_platform.operations.retention import reached
from my_platform.storage.backfill_book import OPEN, SWITCHED, BackfillBook, Held
from my_platform.storage.lake import ABSENT
from my_platform.storage.trace_index import Trace

CANDIDATE_TAG = "my_platform/candidate"
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")
_MOST_EVENTS = 1_000


def check_name(name: str) -> str:
    """The name, which can be a tag.

    Raises:
        PlatformError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise PlatformError(
            f"`{name}` cannot name a candidate; take up to 40 of a-z, 0-9, `_`, `-` and `.`, such as shorter-window"
        )
    return name


@dataclass
class CandidateHeads:
    """The heads of a candidate, over the current ones where it has none."""

    current: DagsterHeads
    book: BackfillBook
    name: str
    _set: list[Held] = field(default_factory=list)
    _made: list[Held] = field(default_factory=list)

    def read(self, assets: Sequence[str]) -> dict[str, dict[str, str]]:
        found = self.current.read(assets)
        for held in self.book.held(self.name, assets):
            if held.asset in found:
                found[held.asset][held.partition] = held.data_version
        return found

    def made_by(self, asset: str, partition: str) -> str | None:
        held = self.book.fingerprint(self.name, asset, partition)
        return self.current.made_by(asset, partition) if held is None else held or None

    def history(self, asset: str, partition: str) -> list[tuple[int, str]]:
        # Of what the candidate holds there is none: the events of heads tell of other versions.
        held = self.book.fingerprint(self.name, asset, partition)
        return self.current.history(asset, partition) if held is None else []

    def emit(self, asset: str, partition: str, version: str, metadata: Mapping[str, Any]) -> None:
        held = Held(asset, partition, version, metadata.get("fingerprint", ""))
        self._set.append(held)
        if not metadata.get("reused"):
            self._made.append(held)
        self.current.observe(
            asset,
            partition,
            {"candidate": self.name, "data_version": version, **metadata},
            {CANDIDATE_TAG: self.name},
        )

    def judge(self, asset: str, found: Mapping[str, Sequence[CheckResult]]) -> None:
        """Checks are of what is current; a candidate's stand in the records of its values until it is."""

    def withdraw(self, asset: str, partition: str) -> None:
        self._set.append(Held(asset, partition, ABSENT, ""))

    def refuse(self, asset: str, partition: str, metadata: Mapping[str, Any]) -> None:
        self.current.observe(
            asset, partition, {"candidate": self.name, **metadata}, {CANDIDATE_TAG: self.name}
        )

    @contextlib.contextmanager
    def commit_section(self) -> Iterator[None]:
        with self.current.commit_section():
            yield
            if self._set:
                self.book.hold(self.name, self._set, self._made)
                self._set.clear()
                self._made.clear()


def overview(workspace: Workspace, book: BackfillBook) -> list[dict[str, Any]]:
    """The candidates of a home, the earliest first, each with its number of partitions and bytes of its own."""
    found = []
    for entry in book.candidates():
        held = book.held(entry.name)
        traces = [
            trace
            for place in book.made_for(entry.name)
            if (trace := workspace.lake.index.trace(*place)) is not None
        ]
        found.append(
            {
                "name": entry.name,
                "state": entry.state,
                "at": datetime.fromtimestamp(entry.at_s, UTC).isoformat(timespec="seconds"),
                "assets": sorted({each.asset for each in held}),
                "partitions": len(held),
                "computed": len(traces),
                "bytes": sum(trace.bytes for trace in traces),
            }
        )
    return found


def show(workspace: Workspace, heads: DagsterHeads, book: BackfillBook, name: str) -> dict[str, Any]:
    """A candidate beside what is current: by asset, which partitions come out the same and which do not."""
    entry = book.candidate(name)
    held = book.held(name)
    names = sorted({each.asset for each in held} & workspace.project.assets.keys())
    current = heads.read(names)
    assets: dict[str, Any] = {}
    for asset in names:
        mine = {each.partition: each.data_version for each in held if each.asset == asset}
        different = [p for p, version in mine.items() if current[asset].get(p, ABSENT) != version]
        assets[asset] = {
            "partitions": len(mine),
            "first": min(mine),
            "last": max(mine),
            "same": len(mine) - len(different),
            "different": different,
        }
    return {"name": name, "state": entry.state, "assets": assets, "behind": _behind(workspace, heads, held)}


def switch(
    workspace: Workspace, heads: DagsterHeads, book: BackfillBook, name: str, launch: Callable[[Order], None]
) -> Report:
    """Make a candidate's values current, in one run that computes nothing; a killed one goes on when called again.

    Args:
        launch: executes a Dagster run that does what an ``Order`` says.

    Raises:
        PlatformError: it was switched to, or its values are not what the present code and inputs give.
    """
    if book.candidate(name).state == SWITCHED:
        raise PlatformError(f"the candidate {name} was switched to already; its values are current")
    held = book.held(name)
    behind = _behind(workspace, heads, held)
    if behind:
        raise PlatformError(
            f"the candidate {name} is not what the code of this checkout gives of what has landed: "
            f"{'; '.join(behind[:3])}{f'; and {len(behind) - 3} more' if len(behind) > 3 else ''}. Call this from "
            f"the checkout that it was built from, and bring it up to date first with the same "
            f"`my-platform backfill … --as {name}`"
        )
    report = refresh(workspace, heads, launch, allowed=_only(held))
    left = sum(len(partitions) for partitions in report.outcome.interrupted.values())
    if left:
        raise PlatformError(
            f"the inputs of {left} partitions moved while {name} was switched to; call this again to go on"
        )
    if not report.outcome.failed:
        book.switch(name)
    return report


def drop(workspace: Workspace, heads: DagsterHeads, book: BackfillBook, name: str) -> dict[str, Any]:
    """Throw away a candidate, and the values that were computed for it and that nothing else refers to."""
    entry = book.candidate(name)
    removed: dict[str, int] = {}
    size = 0
    if entry.state == OPEN:
        with heads.commit_section():
            for trace in _only_of(workspace, heads, book, name):
                workspace.lake.discard(trace.asset, trace.partition, trace.fingerprint)
                workspace.lake.quarantine.delete(
                    workspace.lake.path(trace.asset, trace.partition, trace.fingerprint)
                )
                removed[trace.asset] = removed.get(trace.asset, 0) + 1
                size += trace.bytes
    book.forget(name)
    return {"name": name, "removed": removed, "bytes": size}


def kept(book: BackfillBook) -> list[tuple[str, str, str]]:
    """Asset, partition and data version of what the candidates hold that were not switched to."""
    return [
        (each.asset, each.partition, each.data_version)
        for entry in book.candidates()
        if entry.state == OPEN
        for each in book.held(entry.name)
        if each.data_version != ABSENT
    ]


def _only(held: Sequence[Held]) -> Callable[[Node, int], bool]:
    places = {(each.asset, ordinal(each.partition)) for each in held}

    def allowed(node: Node, key: int) -> bool:
        return (node.name, key) in places

    return allowed


def _behind(workspace: Workspace, heads: DagsterHeads, held: Sequence[Held]) -> list[str]:
    """The partitions of a candidate that are not what the present code gives of the present inputs."""
    known = [each for each in held if each.asset in workspace.project.assets]
    found = [
        f"{each.asset} is no asset of this checkout"
        for each in held
        if each.asset not in workspace.project.assets
    ]
    planned = look_ahead(workspace, heads, _only(known))
    why = {
        (entry.asset, entry.key): entry.action.value
        for entry in planned.entries
        if entry.action not in (Action.REUSE, Action.WITHDRAW)
    }
    place = {node.name: number for number, node in enumerate(workspace.project.order)}
    for each in sorted(known, key=lambda each: (place[each.asset], each.partition)):
        key = ordinal(each.partition)
        version = planned.states[each.asset].get(key)
        if (each.asset, key) in why:
            found.append(f"{each.asset} {each.partition} ({why[each.asset, key]})".replace("  ", " "))
        elif (version.hex() if version else ABSENT) != each.data_version:
            found.append(f"{each.asset} {each.partition} (has another value)".replace("  ", " "))
    return list(dict.fromkeys(found))


def _only_of(workspace: Workspace, heads: DagsterHeads, book: BackfillBook, name: str) -> list[Trace]:
    """The traces that were computed for a candidate, without what anything else refers to."""
    lake, assets = workspace.lake, workspace.project.assets
    others_open = [e.name for e in book.candidates() if e.name != name and e.state == OPEN]
    views: list[Heads] = [heads, *(CandidateHeads(heads, book, other) for other in others_open)]
    states = [look_ahead(workspace, view, lambda _node, _key: False).states for view in views]
    held = {(each.asset, each.partition, each.fingerprint) for o in others_open for each in book.held(o)}
    mine = {
        place: trace
        for place in book.made_for(name)
        if place not in held
        and (trace := lake.index.trace(*place)) is not None
        and not any(_is_current(workspace, trace, each) for each in states)
    }
    once = {asset: _ever_current(heads.instance, asset) for asset in {trace.asset for trace in mine.values()}}
    mine = {
        place: trace
        for place, trace in mine.items()
        if (trace.partition, trace.fingerprint) not in once[trace.asset]
    }
    names = sorted({*assets, *(trace.asset for trace in mine.values())})
    roots = [
        (asset, partition, version)
        for asset, partitions in heads.read(sorted(assets)).items()
        for partition, version in partitions.items()
    ]
    roots += [(each.asset, each.partition, each.data_version) for o in others_open for each in book.held(o)]
    # Published values stay for ever, but this candidate's own were never published.
    for trace in lake.index.traces(sorted(assets)):
        if (
            assets[trace.asset].publish is not None
            and (trace.asset, trace.partition, trace.fingerprint) not in mine
        ):
            roots.append((trace.asset, trace.partition, trace.data_version))
    referred = reached(lake, names, roots, but=mine)
    others = {
        (trace.asset, trace.partition, trace.data_version)
        for trace in lake.index.traces(names)
        if (trace.asset, trace.partition, trace.fingerprint) not in mine
    }
    needed = referred - others
    return [t for t in mine.values() if (t.asset, t.partition, t.data_version) not in needed]


def _is_current(workspace: Workspace, trace: Trace, states: Mapping[str, State]) -> bool:
    """Whether a trace is why a partition is fresh now, under the present code."""
    node = workspace.project.nodes.get(trace.asset)
    if node is None:
        return False
    key = ordinal(trace.partition)
    head = states[trace.asset].get(key)
    return (
        head is not None
        and head.hex() == trace.data_version
        and fingerprint_of(node, key, states) == trace.fingerprint
    )


def _ever_current(instance: dg.DagsterInstance, asset: str) -> set[tuple[str, str]]:
    """Partition and fingerprint of all values of an asset that were ever current: going back to them runs nothing."""
    found: set[tuple[str, str]] = set()
    cursor: str | None = None
    while True:
        page = instance.fetch_materializations(asset_key(asset), limit=_MOST_EVENTS, cursor=cursor)
        for record in page.records:
            event = record.asset_materialization
            told = event.metadata.get("fingerprint") if event is not None else None
            if event is not None and told is not None:
                found.add((event.partition or "", str(told.value)))
        if not page.has_more:
            return found
        cursor = page.cursor
