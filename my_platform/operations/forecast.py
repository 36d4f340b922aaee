"""What a refresh would do, why a partition is as it is, and what landing a file would cause."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from my_platform.errors import PlatformError
from my_platform.incremental.declare import LANDED, Grain, ordinal
from my_platform.incremental.planner import Action, Entry, inputs_of, waits_for, window_keys
from my_platform.operations.outcome import Heads
from my_platform.operations.platform import Workspace, check_key
from my_platform.operations.provenance import cause
from my_platform.operations.refresh import Planned, plan_as_it_is
from my_platform.storage.lake import ABSENT, partition_key
from my_platform.storage.landing import Landed, content_digest
from my_platform.storage.places import SUFFIXES

_NAMES = {
    Action.COMPUTE: "certain",
    Action.LATER: "certain",
    Action.POSSIBLE: "possible",
    Action.REUSE: "reuse",
    Action.WITHDRAW: "withdraw",
    Action.WAITING: "waiting",
    Action.REFUSED: "refused",
}


@dataclass(frozen=True)
class Forecast:
    """The entries of a plan in the words of the command line, parents first."""

    workspace: Workspace
    planned: Planned
    heads: Mapping[str, Mapping[str, str]]

    def as_json(self) -> dict[str, Any]:
        """By kind: partitions by asset, with causes, what is waited for, and an estimate of the cost."""
        kinds: dict[str, dict[str, dict[str, str]]] = {name: {} for name in dict.fromkeys(_NAMES.values())}
        for entry in self.planned.entries:
            partition = self._partition(entry)
            kinds[_NAMES[entry.action]].setdefault(entry.asset, {})[partition] = self.why(entry)
        seconds, size = self._estimate(("certain",), kinds), self._estimate(("certain", "possible"), kinds)
        return {
            **kinds,
            "estimate": {
                "seconds_certain": round(seconds[0], 3),
                "seconds_at_most": round(size[0], 3),
                "bytes_certain": seconds[1],
                "bytes_at_most": size[1],
            },
        }

    def why(self, entry: Entry) -> str:
        """The cause of one entry."""
        node = self.workspace.project.nodes[entry.asset]
        partition = self._partition(entry)
        head = self.heads.get(entry.asset, {}).get(partition)
        if entry.action is Action.WAITING:
            return waits_for(node, entry.key, self.planned.states)
        if entry.action is Action.REFUSED:
            return entry.reason
        if entry.action is Action.WITHDRAW:
            left_out = node.wanted and self.planned.states[node.wanted].get(entry.key) is None
            return (
                "its retraining policy has not decided on it"
                if left_out
                else "the inputs that it needs are gone"
            )
        if head is None or head == ABSENT:
            return "has not been computed" if entry.action is not Action.REUSE else "was computed before"
        if entry.action in (Action.LATER, Action.POSSIBLE):
            pending = self._pending(entry)
            return (
                f"reads {', '.join(pending[:3])}{f' and {len(pending) - 3} more' if len(pending) > 3 else ''}"
            )
        old = self.workspace.lake.record(entry.asset, partition, head)
        if old is None:
            return "its value is not in the store"
        inputs: dict[str, dict[str, str]] = {}
        for name, found in inputs_of(node, entry.key, self.planned.states).items():
            asset = self.workspace.project.assets[entry.asset].reads[name].asset
            inputs.setdefault(asset, {}).update(
                {partition_key(self._grain(asset), key): version.hex() for key, version in found.items()}
            )
        return cause(old, inputs, self.workspace.project.code_versions[entry.asset])

    def _pending(self, entry: Entry) -> list[str]:
        found = []
        for _, read in self.workspace.project.nodes[entry.asset].reads:
            parent = self.planned.states[read.asset]
            low, high = parent.base, parent.base + len(parent) * parent.step
            for key in window_keys(read, parent, entry.key):
                if low <= key < high and parent.pending[parent.slot(key)]:
                    found.append(f"{read.asset} {partition_key(parent.grain, key)}".strip())
        return list(dict.fromkeys(found))

    def _grain(self, asset: str) -> Grain:
        return self.planned.states[asset].grain

    def _partition(self, entry: Entry) -> str:
        return partition_key(self.workspace.project.assets[entry.asset].grain, entry.key)

    def _estimate(
        self, names: tuple[str, ...], kinds: Mapping[str, Mapping[str, Mapping[str, str]]]
    ) -> tuple[float, int]:
        seconds, size = 0.0, 0.0
        for name in names:
            for asset, partitions in kinds[name].items():
                mean_s, mean_bytes = self.workspace.lake.index.mean_cost(asset)
                seconds += mean_s * len(partitions)
                size += mean_bytes * len(partitions)
        return seconds, int(size)


def forecast(workspace: Workspace, heads: Heads) -> Forecast:
    """What a refresh would do now; computes nothing."""
    workspace.look()
    return _forecast(workspace, heads)


def quote(workspace: Workspace, heads: Heads, file: Path, table: str | None, day: str | None) -> Forecast:
    """What landing a file would cause, beyond what is owed already.

    Args:
        table: the landed table it is for; by default the name of the folder it lies in, or its own name.
        day: its partition; by default its own name.

    Raises:
        PlatformError: there is no such file, or its table or day cannot be told.
    """
    stem = next((file.name.removesuffix(s) for s in SUFFIXES if file.name.endswith(s)), file.stem)
    name = table or (file.parent.name if file.parent.name in workspace.project.tables else stem)
    if name not in workspace.project.tables:
        raise PlatformError(
            f"{file}: `{name}` is no landed table; say --table with one of {', '.join(sorted(workspace.project.tables))}"
        )
    grain = workspace.project.tables[name]
    key = 0 if grain is Grain.ONCE else ordinal(day or stem)
    try:
        digest = content_digest(file.read_bytes())
    except OSError as error:
        raise PlatformError(f"{file} cannot be read: {error.strerror}") from error
    workspace.look()
    before = {(e.asset, e.key) for e in plan_as_it_is(workspace, heads).entries}
    landed = workspace.landed[name]
    workspace.landed[name] = Landed({**landed.digests, key: digest}, {**landed.files, key: (str(file),)})
    workspace.look_at_champions()
    found = _forecast(workspace, heads)
    new = [entry for entry in found.planned.entries if (entry.asset, entry.key) not in before]
    return replace(found, planned=Planned(new, found.planned.states))


def why(workspace: Workspace, heads: Heads, asset: str, partition: str) -> dict[str, Any]:
    """The chain from the landed files to a partition: its state, its value, and what it was made of.

    Raises:
        PlatformError: there is no such asset or partition.
    """
    if asset not in workspace.project.assets:
        raise PlatformError(f"{asset} is no asset; there are {', '.join(sorted(workspace.project.assets))}")
    key = check_key(workspace.project.assets[asset], partition)
    found = forecast(workspace, heads)
    by_partition = {(entry.asset, entry.key): entry for entry in found.planned.entries}
    return _chain(found, by_partition, asset, key)


def _chain(found: Forecast, entries: Mapping[tuple[str, int], Entry], asset: str, key: int) -> dict[str, Any]:
    workspace = found.workspace
    partition = partition_key(workspace.project.assets[asset].grain, key)
    entry = entries.get((asset, key))
    head = found.heads.get(asset, {}).get(partition)
    record = workspace.lake.record(asset, partition, head) if head and head != ABSENT else None
    node = workspace.project.nodes[asset]
    inputs = []
    for name, versions in inputs_of(node, key, found.planned.states).items():
        read = workspace.project.assets[asset].reads[name]
        if read.gaps == "optional" and not versions:
            continue
        was = (record or {}).get("inputs", {}).get(read.asset, {})
        grain = found._grain(read.asset)
        changed = [k for k, v in versions.items() if was.get(partition_key(grain, k)) != v.hex()]
        parent = found.planned.states[read.asset]
        stale = [
            k
            for k in window_keys(read, parent, key)
            if (read.asset, k) in entries and k in set(parent.keys())
        ]
        link: dict[str, Any] = {
            "asset": read.asset,
            "partitions": len(versions) + len([k for k in stale if k not in versions]),
            "changed": len({*changed, *stale}),
        }
        follow = next(iter([*stale, *changed]), max(versions) if versions else None)
        if read.asset.startswith(LANDED):
            landed = workspace.source(read.asset)
            link["files"] = [f"{workspace.landing.place.root}/{path}" for path in landed.files.get(key, ())]
        elif follow is not None:
            link["through"] = _chain(found, entries, read.asset, follow)
        inputs.append(link)
    return {
        "asset": asset,
        "partition": partition,
        "state": _NAMES[entry.action] if entry else ("fresh" if head and head != ABSENT else "none"),
        "because": found.why(entry) if entry else "nothing that it reads has changed",
        "data_version": None if head == ABSENT else head,
        "code_version": workspace.project.code_versions[asset],
        "fingerprint": (record or {}).get("fingerprint"),
        "inputs": inputs,
    }


def _forecast(workspace: Workspace, heads: Heads) -> Forecast:
    current = heads.read([node.name for node in workspace.project.order])
    return Forecast(workspace, plan_as_it_is(workspace, heads), current)
