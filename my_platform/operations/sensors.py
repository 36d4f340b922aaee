"""The sensor that keeps a home up to date: it requests exactly the partitions that are stale now."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import dagster as dg

from my_platform.errors import PlatformError
from my_platform.incremental.declare import Grain
from my_platform.incremental.planner import Action, Entry, window_keys
from my_platform.operations.analysts import keep_current
from my_platform.operations.backfill_job import COVERS_TAG, covered
from my_platform.operations.check_results import to_settle
from my_platform.operations.heads import DagsterHeads, asset_key, wrong_instance
from my_platform.operations.jobs import JOB
from my_platform.operations.orphans import end_orphans
from my_platform.operations.platform import Project, Workspace
from my_platform.operations.priorities import PRIORITY_TAG, SCORING_PRIORITY, priority_of
from my_platform.operations.refresh import Planned, look_ahead, withdraw_gone
from my_platform.operations.retraining.reasons import reason_tags
from my_platform.storage.lake import partition_key

SENSOR = "keep_up_to_date"
MOST_ATTEMPTS = 3
_PARTITION = "dagster/partition"
_RANGE_START = "dagster/asset_partition_range_start"
_RANGE_END = "dagster/asset_partition_range_end"
_RAY_TAG = "dagster-ray/config"
_END_OF_TIME = "9999-12-31"
WAVE_TAG = "my_platform/wave"
_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
# A run of this sensor that broke off is requested again by it: Dagster need not do so, too.
_BY_SENSOR = {"my_platform/launched_by": SENSOR, "dagster/max_retries": "0"}
_FAILED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


@dataclass(frozen=True)
class Wave:
    """Partitions of one or several assets of one grain that can run now: a contiguous range."""

    assets: tuple[str, ...]
    grain: Grain
    keys: tuple[int, ...]
    digest: str

    @property
    def first(self) -> str:
        return partition_key(self.grain, self.keys[0])

    @property
    def last(self) -> str:
        return partition_key(self.grain, self.keys[-1])


def owed_sensor(
    workspace: Workspace,
    heads: Callable[[dg.DagsterInstance], DagsterHeads],
    jobs: Mapping[Grain, Any],
    refresh: dg.JobDefinition,
    calendar: Mapping[Grain, dg.PartitionsDefinition | None],
    *,
    dagster_home: Path | None,
    interval_s: int,
    analysts_database: Path | None = None,
) -> dg.SensorDefinition:
    """A sensor that notices landed files by content and requests what is stale, parents before children.

    A tick requests partitions whose inputs are final, and nothing that waits for them; the next tick sees
    what became of them. When nothing is stale it requests nothing. Each run costs the start of a process:
    nothing of an asset is requested while something above it is still being computed. A day that landed
    after the definitions were loaded is unknown to them, so that a run of the refresh job, which has no
    partitions, computes it.

    Args:
        heads: opens the heads of an instance.
        jobs: the job of each grain.
        refresh: the refresh job.
        calendar: the partitions of each grain that the loaded definitions know.
        dagster_home: the only instance that is served; None for any.
        analysts_database: the database that is kept current, where a run could not; None for none.
    """

    @dg.sensor(
        name=SENSOR,
        jobs=[*jobs.values(), refresh],
        minimum_interval_seconds=interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Computes what is owed when files land, change or go away.",
    )
    def keep_up_to_date(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        reason = wrong_instance(context.instance, dagster_home)
        if reason is not None:
            yield dg.SkipReason(reason)
            return
        end_orphans(context.instance)
        found = heads(context.instance)
        planned = look_ahead(workspace, found)
        if any(entry.action is Action.WITHDRAW for entry in planned.entries):
            planned = withdraw_gone(workspace, found)
        project = workspace.project
        stale = stale_now(project, planned)
        spans = _under_way(context.instance, project, jobs)
        free = [entry for entry in stale if not _covered(entry, project, spans)]
        free = _without_descendants(free, project, spans)
        requests = [
            _request(context.instance, wave, jobs[wave.grain].name, _tags(workspace, wave))
            for wave in waves_of(project, free)
        ]
        if any(not _known(entry, project, calendar) for entry in free):
            digest = _digest({_named(entry, project): [entry.fingerprint] for entry in free})
            requests = [_refresh_request(context.instance, digest)]
        settled = to_settle(workspace, lambda: planned.entries)
        if settled and not requests and not spans:
            requests = [_refresh_request(context.instance, _digest({" ".join(each): [] for each in settled}))]
        yield from (request for request in requests if request is not None)
        if analysts_database is not None:
            try:
                keep_current(workspace, found, analysts_database)
            except (PlatformError, OSError) as error:
                context.log.warning(f"{analysts_database} stays as it was: {error}")
        if not stale and not any(requests):
            yield dg.SkipReason("; ".join(["nothing is stale", *_unread(workspace)]))
        elif stale and not free:
            yield dg.SkipReason("runs are under way")
        elif not any(requests):
            yield dg.SkipReason(
                f"{len(free)} partitions are stale, such as {_named(free[0], project)}, but their runs failed "
                f"{MOST_ATTEMPTS} times. See the failed runs, and materialize again what they were to compute"
            )

    return keep_up_to_date


def _unread(workspace: Workspace) -> list[str]:
    """The files in landing that no table reads, at the last look."""
    found = workspace.landed.values()
    return [reason for seen in found for reason in (*seen.unusable.values(), *seen.misnamed.values())]


def grain_jobs(project: Project) -> dict[Grain, Any]:
    """A job over all assets of each grain: what the sensor's runs are runs of."""
    names = {Grain.ONCE: "unpartitioned_tables", Grain.DAY: "daily_tables", Grain.WEEK: "weekly_models"}
    jobs = {}
    for grain, name in names.items():
        keys = [asset_key(asset.name) for asset in project.assets.values() if asset.grain is grain]
        if keys:
            jobs[grain] = dg.define_asset_job(
                name,
                selection=dg.AssetSelection.assets(*keys),
                description=f"All {grain.value} assets of the platform.",
            )
    return jobs


def stale_now(project: Project, planned: Planned) -> list[Entry]:
    """Partitions that are stale on the inputs that are current: what can run now.

    The plan also counts on partitions that will get back an earlier value; what reads those comes after.
    """
    back = {(entry.asset, entry.key) for entry in planned.entries if entry.action is Action.REUSE}
    found = []
    for entry in planned.entries:
        if entry.action not in (Action.COMPUTE, Action.REUSE):
            continue
        reads = project.assets[entry.asset].reads.values()
        if not back or not any(
            (read.asset, key) in back
            for read in reads
            if read.asset in project.assets
            for key in window_keys(read, planned.states[read.asset], entry.key)
        ):
            found.append(entry)
    return found


def waves_of(project: Project, entries: Sequence[Entry]) -> list[Wave]:
    """Entries in contiguous ranges; assets of one grain with the same range share a run."""
    by_asset: dict[str, list[Entry]] = {}
    for entry in entries:
        by_asset.setdefault(entry.asset, []).append(entry)
    ranges: dict[tuple[Grain, tuple[int, ...]], dict[str, list[str]]] = {}
    for asset, found in by_asset.items():
        grain = project.assets[asset].grain
        step = 7 if grain is Grain.WEEK else 1
        stretch: list[Entry] = []
        for entry in sorted(found, key=lambda e: e.key):
            if stretch and entry.key != stretch[-1].key + step:
                _add(ranges, grain, asset, stretch)
                stretch = []
            stretch.append(entry)
        _add(ranges, grain, asset, stretch)
    return [
        Wave(tuple(sorted(assets)), grain, keys, _digest(assets)) for (grain, keys), assets in ranges.items()
    ]


def _add(
    ranges: dict[tuple[Grain, tuple[int, ...]], dict[str, list[str]]],
    grain: Grain,
    asset: str,
    stretch: Sequence[Entry],
) -> None:
    keys = tuple(entry.key for entry in stretch)
    ranges.setdefault((grain, keys), {})[asset] = [entry.fingerprint for entry in stretch]


def _digest(assets: Mapping[str, Sequence[str]]) -> str:
    text = ";".join(f"{asset}:{','.join(prints)}" for asset, prints in sorted(assets.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _under_way(
    instance: dg.DagsterInstance, project: Project, jobs: Mapping[Grain, Any]
) -> dict[str, list[tuple[str, str]]]:
    """First and last partition, by asset, of what runs compute now, whoever asked for them."""
    of_job = {job.name: grain for grain, job in jobs.items()}
    spans: dict[str, list[tuple[str, str]]] = {}
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY)):
        one = run.tags.get(_PARTITION, "")
        span = (run.tags.get(_RANGE_START, one), run.tags.get(_RANGE_END, one))
        names: Collection[str] = {key.to_user_string() for key in run.asset_selection or ()} or {
            asset.name for asset in project.assets.values() if asset.grain is of_job.get(run.job_name)
        }
        if run.job_name == JOB:
            names, span = set(project.assets), ("", _END_OF_TIME)
        if COVERS_TAG in run.tags:
            names, span = covered(run.tags[COVERS_TAG])
        for name in names:
            spans.setdefault(name, []).append(span)
    return spans


def _covered(entry: Entry, project: Project, spans: Mapping[str, Sequence[tuple[str, str]]]) -> bool:
    grain = project.assets[entry.asset].grain
    key = partition_key(grain, entry.key)
    return any(grain is Grain.ONCE or first <= key <= last for first, last in spans.get(entry.asset, ()))


def _without_descendants(
    entries: Sequence[Entry], project: Project, spans: Mapping[str, Sequence[tuple[str, str]]]
) -> list[Entry]:
    """Entries of assets above which nothing is computed any more, so that a later run does them at once."""
    busy = {*spans, *(entry.asset for entry in entries)}
    held = {name for name in busy if busy & project.ancestors([name]) - {name}}
    return [entry for entry in entries if entry.asset not in held]


def _known(entry: Entry, project: Project, calendar: Mapping[Grain, dg.PartitionsDefinition | None]) -> bool:
    grain = project.assets[entry.asset].grain
    partitions = calendar[grain]
    return partitions is None or partitions.has_partition_key(partition_key(grain, entry.key))


def _named(entry: Entry, project: Project) -> str:
    return f"{entry.asset} {partition_key(project.assets[entry.asset].grain, entry.key)}".strip()


def _tags(workspace: Workspace, wave: Wave) -> dict[str, str]:
    """The priority of a wave's run, the devices that it needs, and the reasons for which it fits models."""
    weeks = [partition_key(wave.grain, key) for key in wave.keys]
    reasons = reason_tags(workspace, dict.fromkeys(wave.assets, weeks))
    gpus = max(workspace.project.assets[name].gpus for name in wave.assets)
    # Where runs are jobs on Ray, it finds them a node with devices; elsewhere nobody reads this.
    devices = {_RAY_TAG: json.dumps({"num_gpus": gpus})} if gpus else {}
    return {PRIORITY_TAG: str(priority_of(workspace.project, wave.assets)), **devices, **reasons}


def _request(
    instance: dg.DagsterInstance, wave: Wave, job: str, own: Mapping[str, str]
) -> dg.RunRequest | None:
    """The run of a wave with tags of its own; None after it has failed as often as it may."""
    run_key = _next_attempt(instance, wave.digest)
    if run_key is None:
        return None
    tags = {WAVE_TAG: wave.digest, **_BY_SENSOR, **own}
    if wave.first != wave.last:
        tags |= {_RANGE_START: wave.first, _RANGE_END: wave.last}
    return dg.RunRequest(
        job_name=job,
        run_key=run_key,
        asset_selection=[asset_key(name) for name in wave.assets],
        # What answers checks about these is an asset too, and is requested when what it reads is final.
        asset_check_keys=[],
        partition_key=wave.first if wave.first and wave.first == wave.last else None,
        tags=tags,
    )


def _refresh_request(instance: dg.DagsterInstance, digest: str) -> dg.RunRequest | None:
    run_key = _next_attempt(instance, digest)
    if run_key is None:
        return None
    tags = {WAVE_TAG: digest, **_BY_SENSOR, PRIORITY_TAG: str(SCORING_PRIORITY)}
    return dg.RunRequest(job_name=JOB, run_key=run_key, tags=tags)


def _next_attempt(instance: dg.DagsterInstance, digest: str) -> str | None:
    """A key that no run had; None where the last runs for the same have failed as often as they may."""
    runs = instance.get_runs(dg.RunsFilter(tags={WAVE_TAG: digest}))
    failed = list(takewhile(lambda run: run.status in _FAILED, runs))
    return f"{digest}:{len(runs)}" if len(failed) < MOST_ATTEMPTS else None
