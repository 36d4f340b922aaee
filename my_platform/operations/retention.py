"""Retention: objects that nothing refers to any more are removed after a number of days."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from my_platform.operations.platform import Workspace
from my_platform.storage.lake import ABSENT, Lake
from my_platform.storage.trace_index import Trace

_DAY_S = 86_400


@dataclass(frozen=True)
class Collected:
    """Objects that were removed, or in a dry run would be, by asset; and their bytes."""

    objects: Mapping[str, int]
    bytes: int
    kept: int

    def as_json(self) -> dict[str, object]:
        return {"removed": dict(self.objects), "bytes": self.bytes, "kept": self.kept}


Value = tuple[str, str, str]
"""Asset, partition and data version."""


def collect(
    workspace: Workspace,
    heads: Mapping[str, Mapping[str, str]],
    *,
    keep_days: int,
    dry_run: bool,
    also: Sequence[Value] = (),
) -> Collected:
    """Remove objects that are older than ``keep_days`` and that nothing refers to.

    What a head refers to stays, and what any model or report that is still in the lake was made from,
    through all its inputs: it can be reproduced.

    Args:
        also: values that stay beside those of the heads, such as those of candidates.
    """
    lake, assets = workspace.lake, workspace.project.assets
    traces = list(lake.index.traces(sorted(assets)))
    by_version: dict[Value, list[Trace]] = {}
    for trace in traces:
        by_version.setdefault((trace.asset, trace.partition, trace.data_version), []).append(trace)
    # Models and reports stay whatever week or code they are of: the registry and people point at them.
    lasting = {name for name, asset in assets.items() if asset.publish is not None}
    current = [
        (asset, partition, version)
        for asset, partitions in heads.items()
        for partition, version in partitions.items()
    ]
    kept = [(t.asset, t.partition, t.data_version) for t in traces if t.asset in lasting]
    referred = reached(lake, sorted(assets), [*current, *kept, *also])
    youngest = time.time() - keep_days * _DAY_S
    removed: dict[str, int] = {}
    size = 0
    for value, found in by_version.items():
        for trace in found if value not in referred else []:
            path = lake.path(trace.asset, trace.partition, trace.fingerprint)
            modified = lake.store.modified(path)
            if modified is None or modified > youngest:
                continue
            removed[trace.asset] = removed.get(trace.asset, 0) + 1
            size += trace.bytes
            if not dry_run:
                lake.discard(trace.asset, trace.partition, trace.fingerprint)
                lake.quarantine.delete(path)
    if not dry_run:
        _forget_refused_rows(workspace, youngest)
    return Collected(removed, size, len(traces) - sum(removed.values()))


def reached(
    lake: Lake,
    assets: Sequence[str],
    values: Iterable[Value],
    *,
    but: Collection[tuple[str, str, str]] = (),
) -> set[Value]:
    """Those of some values that are stored, and all stored values of some assets that they were made from.

    Args:
        but: objects, by asset, partition and fingerprint, that count only where no other holds their value.
    """
    by_version: dict[Value, list[Trace]] = {}
    for trace in lake.index.traces(assets):
        by_version.setdefault((trace.asset, trace.partition, trace.data_version), []).append(trace)
    todo = [value for value in values if value[2] != ABSENT]
    referred: set[Value] = set()
    while todo:
        value = todo.pop()
        if value in referred or value not in by_version:
            continue
        referred.add(value)
        # Several objects may hold one version, each made from other inputs.
        found = by_version[value]
        others = [t for t in found if (t.asset, t.partition, t.fingerprint) not in but]
        for trace in others or found:
            record = lake.record_at(trace.asset, trace.partition, trace.fingerprint) or {}
            for asset, inputs in record.get("inputs", {}).items():
                todo += [(asset, partition, version) for partition, version in inputs.items()]
    return referred


def _forget_refused_rows(workspace: Workspace, youngest: float) -> None:
    """Remove the rows of deliveries that were refused and are refused no more."""
    lake = workspace.lake
    refused = {lake.path(*key) for key in lake.index.refusals()}
    for path, _ in list(lake.quarantine.list("")):
        modified = lake.quarantine.modified(path)
        old = modified is not None and modified <= youngest
        if old and path not in refused and not lake.store.exists(path):
            lake.quarantine.delete(path)
