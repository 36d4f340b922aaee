"""Heads in Dagster's event log: the data version of each partition's latest materialization."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from my_platform.incremental.checks import CheckResult
from my_platform.incremental.declare import Asset
from my_platform.operations.event_log import (
    about_materialization,
    evaluation_entry,
    is_in_postgres,
    store_evaluations,
)
from my_platform.storage.lake import ABSENT
from my_platform.storage.objects import locked
from my_platform.storage.session_lock import SessionLock, session_locked

DATA_VERSION_TAG = "dagster/data_version"
CODE_VERSION_TAG = "dagster/code_version"
_USER_PROVIDED_TAG = "dagster/data_version_is_user_provided"
_INPUT_VERSION_TAG = "dagster/input_data_version"
_INPUT_POINTER_TAG = "dagster/input_event_pointer"
# Of the database: it has the heads of one home, however many machines share it.
HEADS_LOCK = "heads"
_EVENTS_OF_A_PARTITION = 10_000
_SEVERITY = {"warn": dg.AssetCheckSeverity.WARN, "error": dg.AssetCheckSeverity.ERROR}


@dataclass(frozen=True)
class Step:
    """The step of a Dagster run that is under way.

    Attributes:
        log: writes an event of the step.
    """

    run_id: str
    job_name: str
    step_key: str
    log: Callable[[dg.AssetMaterialization | dg.AssetObservation], None]


class DagsterHeads:
    """Reads heads in bulk and records new ones.

    Args:
        instance: the Dagster instance.
        assets: the project's assets by name.
        code_versions: by asset, for Dagster's provenance tags.
        lock: a file that is locked while heads are compared and set, where they do not lie in PostgreSQL.
        step: the step that is under way; None outside of a run.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        assets: Mapping[str, Asset],
        code_versions: Mapping[str, str],
        lock: Path,
        step: Step | None = None,
    ) -> None:
        self.instance = instance
        self.assets = assets
        self.code_versions = code_versions
        self.lock = lock
        self.step = step
        self.cursor: int | None = None
        self._section: SessionLock | None = None
        self._emitted: dict[tuple[str, str], float] = {}
        self._judged: dict[tuple[str, str], Sequence[CheckResult]] = {}

    def read(self, assets: Sequence[str]) -> dict[str, dict[str, str]]:
        """Data version by partition by asset; withdrawn partitions read ``absent``."""
        storage = self.instance.event_log_storage
        self.cursor = storage.get_maximum_record_id()
        found: dict[str, dict[str, str]] = {}
        once = []
        for name in assets:
            if self.assets[name].grain.value == "once":
                once.append(name)
                continue
            tags = storage.get_latest_tags_by_partition(
                asset_key(name), dg.DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
            )
            found[name] = {key: t[DATA_VERSION_TAG] for key, t in tags.items() if DATA_VERSION_TAG in t}
        events = storage.get_latest_materialization_events([asset_key(name) for name in once]) if once else {}
        for name in once:
            entry = events.get(asset_key(name))
            materialization = entry.asset_materialization if entry else None
            version = (materialization.tags or {}).get(DATA_VERSION_TAG) if materialization else None
            found[name] = {"": version} if version else {}
        return found

    def made_by(self, asset: str, partition: str) -> str | None:
        """The fingerprint of the value that is current, as its event tells."""
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key(asset), asset_partitions=[partition] if partition else None),
            limit=1,
        ).records
        materialization = records[0].asset_materialization if records else None
        found = materialization.metadata.get("fingerprint") if materialization else None
        return found.value if isinstance(found, dg.TextMetadataValue) else None

    def history(self, asset: str, partition: str) -> list[tuple[int, str]]:
        """The data versions that a partition has had, by the numbers of their events."""
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key(asset), asset_partitions=[partition] if partition else None),
            limit=_EVENTS_OF_A_PARTITION,
        ).records
        found = [(record.storage_id, record.asset_materialization) for record in records]
        return [(number, (made.tags or {}).get(DATA_VERSION_TAG, "")) for number, made in found if made]

    def emit(self, asset: str, partition: str, version: str, metadata: Mapping[str, Any]) -> None:
        """Write a materialization event of the run that is under way."""
        assert self.step is not None, "heads are set by a Dagster run"
        self._check_section()
        tags = {
            DATA_VERSION_TAG: version,
            CODE_VERSION_TAG: self.code_versions[asset],
            _USER_PROVIDED_TAG: "true",
        }
        inputs: Mapping[str, Mapping[str, str]] = metadata.get("inputs", {})
        for name, read in self.assets[asset].reads.items():
            if read.asset in self.assets:
                versions = list(inputs.get(name, {}).values())
                tags[f"{_INPUT_VERSION_TAG}/{read.asset}"] = (
                    versions[0]
                    if len(versions) == 1
                    else hashlib.sha256("".join(versions).encode()).hexdigest()[:32]
                )
                tags[f"{_INPUT_POINTER_TAG}/{read.asset}"] = str(self.cursor or 0)
        self.step.log(
            dg.AssetMaterialization(
                asset_key(asset),
                partition=partition or None,
                tags=tags,
                metadata={
                    name: _value(self._by_asset(asset, value) if name == "inputs" else value)
                    for name, value in metadata.items()
                },
            )
        )

        self._emitted[asset, partition] = time.time()

    def refuse(self, asset: str, partition: str, metadata: Mapping[str, Any]) -> None:
        """Write an observation: the partition's events show what was refused, and its head stays."""
        self.observe(asset, partition, metadata)

    def observe(
        self, asset: str, partition: str, metadata: Mapping[str, Any], tags: Mapping[str, str] | None = None
    ) -> None:
        """Write an observation of the run that is under way, which changes no head."""
        assert self.step is not None, "observations are made by a Dagster run"
        about = {name: _value(value) for name, value in metadata.items()}
        self.step.log(
            dg.AssetObservation(
                asset_key(asset), partition=partition or None, metadata=about, tags=dict(tags or {})
            )
        )

    def judge(self, asset: str, found: Mapping[str, Sequence[CheckResult]]) -> None:
        """Write check evaluations: of the run that is under way, or outside of one without a run."""
        declared = {check.name: check for check in self.assets[asset].own_checks}
        judged = [partition for partition, results in found.items() if results]
        targets = {
            about: self._targets(about or asset, judged) for about in {c.about for c in declared.values()}
        }
        evaluations = [
            dg.AssetCheckEvaluation(
                asset_key(declared[result.check].about or asset),
                result.check,
                result.passed,
                {name: _value(value) for name, value in result.metadata.items()},
                targets[declared[result.check].about].get(partition),
                _SEVERITY[result.severity or declared[result.check].severity],
                result.description or None,
                blocking=False,
                partition=partition or None,
            )
            for partition, results in found.items()
            for result in results
            if result.check in declared
        ]
        if self.step is None:
            for evaluation in evaluations:
                self.instance.report_runless_asset_event(evaluation)
            return
        self._judged |= {(asset, partition): results for partition, results in found.items()}
        step = self.step
        store_evaluations(
            self.instance.event_log_storage,
            [evaluation_entry(each, step.run_id, step.job_name, step.step_key) for each in evaluations],
        )

    def judge_again(self, asset: str) -> None:
        """Point what this run has said in checks about an asset to the events that came after it."""
        for answering in sorted({name for name, _ in self._judged}):
            if asset in {check.about or answering for check in self.assets[answering].own_checks}:
                self.judge(answering, {p: found for (n, p), found in self._judged.items() if n == answering})

    def _targets(self, asset: str, partitions: Sequence[str]) -> dict[str, Any]:
        """What each partition's latest materialization is called in an evaluation."""
        kind = dg.DagsterEventType.ASSET_MATERIALIZATION
        ours = [p for p in partitions if p and (asset, p) in self._emitted and self.step is not None]
        found: dict[str, Any] = {}
        if ours and self.step is not None:
            latest = self.instance.event_log_storage.get_latest_storage_id_by_partition(
                asset_key(asset), kind, set(ours)
            )
            for partition in ours:
                if partition in latest:
                    emitted = self._emitted[asset, partition]
                    found[partition] = about_materialization(latest[partition], self.step.run_id, emitted)
        for partition in partitions:
            if partition not in found:
                records = self.instance.fetch_materializations(
                    dg.AssetRecordsFilter(
                        asset_key(asset), asset_partitions=[partition] if partition else None
                    ),
                    limit=1,
                ).records
                for record in records:
                    found[partition] = about_materialization(
                        record.storage_id, record.run_id, record.timestamp
                    )
        return found

    def _by_asset(self, asset: str, inputs: Mapping[str, Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
        """Input versions under the name of the asset that is read, with the read's name where there are several."""
        reads = self.assets[asset].reads
        names = [reads[name].asset for name in inputs]
        return {
            reads[name].asset
            if names.count(reads[name].asset) == 1
            else f"{reads[name].asset} ({name})": found
            for name, found in inputs.items()
        }

    def bring(self, asset: str, partition: str, version: str, home: str) -> None:
        """A runless event: the value was taken over from another home."""
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization(
                asset_key(asset),
                partition=partition or None,
                tags={DATA_VERSION_TAG: version, _USER_PROVIDED_TAG: "true"},
                metadata={"taken_from": home},
            )
        )

    def withdraw(self, asset: str, partition: str) -> None:
        """A runless event with data version ``absent``."""
        self._check_section()
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization(
                asset_key(asset),
                partition=partition or None,
                tags={DATA_VERSION_TAG: ABSENT, _USER_PROVIDED_TAG: "true"},
                metadata={"withdrawn": "the inputs that this partition needs are gone"},
            )
        )

    @contextlib.contextmanager
    def commit_section(self) -> Iterator[None]:
        """Held by one process at a time, and freed when its holder dies.

        Where heads lie in PostgreSQL, its server holds the lock, for all machines; else the kernel of this one does.
        """
        storage = self.instance.event_log_storage
        if not is_in_postgres(storage):
            with locked(self.lock):
                yield
            return
        with (
            storage.index_connection() as connection,
            session_locked(connection, HEADS_LOCK) as self._section,
        ):
            try:
                yield
            finally:
                self._section = None

    def _check_section(self) -> None:
        """Raise where the lock was lost meanwhile, as when the server of the database was started anew."""
        if self._section is not None:
            self._section.check()


def wrong_instance(instance: dg.DagsterInstance, dagster_home: Path | None) -> str | None:
    """Why a run must not happen on an instance: it is not the one that knows what is current."""
    if dagster_home is None or Path(instance.root_directory).resolve() == dagster_home.resolve():
        return None
    return (
        f"this Dagster instance keeps its events in {instance.root_directory}, and what is current stands in "
        f"{dagster_home}. Start Dagster with `my-platform ui`, or set DAGSTER_HOME={dagster_home}"
    )


def asset_key(name: str) -> dg.AssetKey:
    """The Dagster key of an asset: ``validated/orders`` has two parts."""
    return dg.AssetKey(name.split("/"))


def _value(value: Any) -> Any:
    if isinstance(value, dg.MetadataValue | bool):
        return value
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return dg.MetadataValue.table([dg.TableRecord(row) for row in value])
    if isinstance(value, dict | list | tuple):
        return dg.MetadataValue.json(value)
    return value
