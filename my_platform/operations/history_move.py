"""Telling one Dagster instance what is current in another: the latest materialization of each partition, as it was.

The runs that made them, and what came before, stay where they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import dagster as dg

from my_platform.errors import DamagedObject, PlatformError
from my_platform.incremental.checks import CheckResult
from my_platform.operations.heads import DagsterHeads, asset_key
from my_platform.operations.platform import Project
from my_platform.storage.sealed import record_of

_MOVED = "moved"
_POINTER = "dagster/input_event_pointer/"
_AT_A_TIME = 500
_KIND = dg.DagsterEventType.ASSET_MATERIALIZATION


def copy_heads(
    project: Project, source: dg.DagsterInstance, target: dg.DagsterInstance, lake: Path, move: str
) -> int:
    """Report each head of one instance to the other, where it is not the same already; how many are there then.

    Args:
        lake: the folder of the objects, whose records tell how heads answer the checks.
        move: the id of the move: what an earlier try of it has reported may be reported anew.

    Raises:
        PlatformError: the target has heads that are not of this move.
    """
    names = list(project.assets)
    theirs = _heads(project, target, lake).read(names)
    there = 0
    for name, ours in _heads(project, source, lake).read(names).items():
        moved = {key for key, version in ours.items() if theirs[name].get(key) != version}
        _check(target, name, {*theirs[name]} - {key for key in ours if key not in moved}, move)
        judged: dict[str, Sequence[CheckResult]] = {}
        for found in _latest(source, name, moved):
            target.report_runless_asset_event(_as_it_was(found, move))
            partition = found.partition or ""
            if project.assets[name].own_checks:
                judged[partition] = _results(lake, name, partition, found)
        if any(judged.values()):
            _heads(project, target, lake).judge(name, judged)
        there += len(ours)
    return there


def _heads(project: Project, instance: dg.DagsterInstance, lake: Path) -> DagsterHeads:
    return DagsterHeads(instance, project.assets, project.code_versions, lake / "unused.lock")


def _check(target: dg.DagsterInstance, name: str, others: set[str], move: str) -> None:
    """Raise where a partition has an event that this move has not reported."""
    for found in _latest(target, name, others):
        told = found.metadata.get(_MOVED)
        if not isinstance(told, dg.TextMetadataValue) or told.value != move:
            raise PlatformError(
                f"the database has events of another home, such as {name} {found.partition or ''}".rstrip()
                + "; name a database of this home's own with the PG… variables"
            )


def _latest(
    instance: dg.DagsterInstance, name: str, partitions: set[str]
) -> Iterator[dg.AssetMaterialization]:
    """The latest materializations of partitions, in no order."""
    key, storage = asset_key(name), instance.event_log_storage
    if "" in partitions:
        entry = storage.get_latest_materialization_events([key]).get(key)
        if entry is not None and entry.asset_materialization is not None:
            yield entry.asset_materialization
    keyed = partitions - {""}
    ids = storage.get_latest_storage_id_by_partition(key, _KIND, keyed).values() if keyed else ()
    wanted = sorted(ids)
    for start in range(0, len(wanted), _AT_A_TIME):
        some = wanted[start : start + _AT_A_TIME]
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(key, storage_ids=some), limit=len(some)
        ).records
        for record in records:
            if record.asset_materialization is not None:
                yield record.asset_materialization


def _as_it_was(found: dg.AssetMaterialization, move: str) -> dg.AssetMaterialization:
    """The same event; its pointers to other events mean none of the other log."""
    tags: Mapping[str, str] = found.tags or {}
    return dg.AssetMaterialization(
        found.asset_key,
        description=found.description,
        partition=found.partition,
        tags={name: "0" if name.startswith(_POINTER) else value for name, value in tags.items()},
        metadata={**found.metadata, _MOVED: move},
    )


def _results(lake: Path, name: str, partition: str, found: dg.AssetMaterialization) -> list[CheckResult]:
    """How a head answers the checks of its asset, as its object tells."""
    made_by = found.metadata.get("fingerprint")
    path = lake / name / (partition or "all") / f"{made_by.value if made_by else ''}.parquet"
    try:
        record = record_of(path.read_bytes(), str(path))
    except (FileNotFoundError, DamagedObject):
        return []
    return [CheckResult.of_json(stored) for stored in record.get("checks", ())]
