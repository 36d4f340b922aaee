"""Reading what the platform knows for alerts: the plan, and of all else only what is new since the last look."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from my_platform.errors import DamagedBundle, PlatformError
from my_platform.incremental.checks import Check
from my_platform.incremental.declare import Asset, Grain, day_key, ordinal
from my_platform.incremental.planner import Action
from my_platform.learning.budgets import Measured, WithFeatures, over_budget
from my_platform.learning.bundle import read_bundle
from my_platform.learning.health import Health, breaches
from my_platform.learning.ledger import Line, Served, standing_of
from my_platform.operations.alerts.conditions import Ailing, FailedCheck, FailedRun, Known, Refusal
from my_platform.operations.alerts.said import iso
from my_platform.operations.audit.facts import trends_of_the_day
from my_platform.operations.backfill_job import BACKFILL_TAG
from my_platform.operations.check_results import stored_results
from my_platform.operations.heads import DagsterHeads, asset_key
from my_platform.operations.health import health_of, in_service
from my_platform.operations.home import open_registry
from my_platform.operations.missing import missing
from my_platform.operations.models import Models
from my_platform.operations.platform import Workspace
from my_platform.operations.quality_report import checked_tables
from my_platform.operations.refresh import Planned, look_ahead
from my_platform.operations.sensors import WAVE_TAG
from my_platform.settings import Settings
from my_platform.storage.lake import ABSENT, partition_key

# How far back a first look goes for what happens once, and any look for checks of partitions.
FIRST_LOOK_S = 86_400.0
MOST_DAYS = 31
_MOST_RUNS = 200
# Times and event numbers may become visible in another order than they were given.
_OVERLAP_S = 120.0
_OVERLAP_EVENTS = 1_000
# What several runs have in common that were to compute the same, or were ordered at once.
_ASKED_BY = (WAVE_TAG, BACKFILL_TAG, "dagster/backfill")
_FAILURES = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}


@dataclass(frozen=True)
class Seen:
    """What a look has seen, and how far the next one is to go on from; JSON values."""

    known: Known
    cursors: Mapping[str, Any]


def look(
    settings: Settings,
    workspace: Workspace,
    heads: DagsterHeads,
    cursors: Mapping[str, Any],
    now_s: float,
) -> Seen:
    """What the platform knows now.

    Args:
        cursors: those of the last look; empty for the first one.
    """
    planned = look_ahead(workspace, heads)
    models = Models(workspace, heads, open_registry(settings))
    failing, checks = _failed_checks(workspace, heads, cursors.get("checks", {}))
    runs, of_runs = _failed_runs(heads.instance, cursors.get("runs", {}), now_s)
    lines, of_lines = _promotions(models, cursors.get("promotions"), now_s)
    ailing, of_health = _health(settings, models, cursors.get("health", {}))
    trends, of_trends = trends_of_the_day(workspace, cursors.get("trends", {}), now_s)
    known = Known(
        refused=list(_refusals(workspace, planned)),
        unusable={
            path: reason for seen in workspace.landed.values() for path, reason in seen.unusable.items()
        },
        failed_checks=failing,
        missing=missing(workspace, now_s),
        ailing=ailing,
        spent=_spent(workspace, now_s) if settings.budget_cpu_s is not None else {},
        budget_cpu_s=settings.budget_cpu_s,
        over_budget=dict(_over_budget(models)),
        failed_runs=runs,
        promotions=lines,
        trends=trends,
    )
    return Seen(
        known,
        {"checks": checks, "runs": of_runs, "promotions": of_lines, "health": of_health, "trends": of_trends},
    )


def _refusals(workspace: Workspace, planned: Planned) -> Iterator[Refusal]:
    for entry in planned.entries:
        if entry.action is Action.REFUSED:
            grain = workspace.project.assets[entry.asset].grain
            yield Refusal(entry.asset, partition_key(grain, entry.key), entry.reason)


def _failed_checks(
    workspace: Workspace, heads: DagsterHeads, cursor: Mapping[str, Any]
) -> tuple[list[FailedCheck], dict[str, Any]]:
    """The checks that current values do not pass, of partitions within ``MOST_DAYS`` days of the last one.

    A check that was told of another value than the current one is about to be told anew: it stays as it was seen.
    """
    assets = workspace.project.assets
    declared = {
        (check.about or asset.name, check.name): (asset, check)
        for asset in assets.values()
        for check in asset.own_checks
    }
    storage = heads.instance.event_log_storage
    newest = storage.get_maximum_record_id() or 0
    after = cursor.get("after")
    found = {FailedCheck(**each) for each in cursor.get("failing", ())}
    failing = {(each.asset, each.partition, each.check): each for each in found}
    if newest != after:
        infos = storage.get_asset_check_partition_info(
            [dg.AssetCheckKey(asset_key(about), name) for about, name in declared],
            after_storage_id=None if after is None else after - _OVERLAP_EVENTS,
        )
        for info in infos:
            about, partition = info.check_key.asset_key.to_user_string(), info.partition_key or ""
            place = (about, partition, info.check_key.name)
            if info.latest_execution_status.value != "FAILED":
                failing.pop(place, None)
            elif info.is_current and place not in failing:
                asset, check = declared[about, info.check_key.name]
                result = _failed(workspace, heads, asset, check, about, partition, info.latest_planned_run_id)
                failing |= {place: result} if result is not None else {}
    current = heads.read(sorted({asset for asset, _, _ in failing if asset in assets}))
    kept = [
        each
        for (asset, partition, check), each in sorted(failing.items())
        if (asset, check) in declared
        and current.get(asset, {}).get(partition, ABSENT) != ABSENT
        and _is_recent(assets[asset], partition, current[asset])
    ]
    return kept, {"after": newest, "failing": [vars(each) for each in kept]}


def _failed(
    workspace: Workspace,
    heads: DagsterHeads,
    asset: Asset,
    check: Check,
    about: str,
    partition: str,
    run_id: str,
) -> FailedCheck | None:
    """What the current value of a partition says of a check; None where it says that it passes."""
    version = heads.read([asset.name])[asset.name].get(partition, ABSENT)
    for fingerprint in workspace.lake.index.find(asset.name, partition, version)[:1]:
        for result in stored_results(workspace.lake, asset.name, partition, fingerprint):
            if result.check == check.name and not result.passed:
                severity = result.severity or check.severity
                listed = about in {table.validated.name for table in checked_tables(workspace.project)}
                return FailedCheck(about, partition, check.name, severity, result.description, run_id, listed)
    return None


def _is_recent(asset: Asset, partition: str, current: Mapping[str, str]) -> bool:
    if asset.grain is Grain.ONCE:
        return True
    last = max((key for key, version in current.items() if version != ABSENT), default=partition)
    return ordinal(last) - ordinal(partition) <= MOST_DAYS


def _failed_runs(
    instance: dg.DagsterInstance, cursor: Mapping[str, Any], now_s: float
) -> tuple[list[FailedRun], dict[str, Any]]:
    """The runs that have failed since the last look, the earliest first; at most ``_MOST_RUNS``."""
    after_s: float = cursor.get("after", now_s - FIRST_LOOK_S)
    seen: set[str] = set(cursor.get("seen", ()))
    records = instance.get_run_records(
        dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.FAILURE],
            updated_after=datetime.fromtimestamp(after_s - _OVERLAP_S, UTC),
        ),
        limit=_MOST_RUNS,
        order_by="update_timestamp",
        ascending=True,
    )
    # What was touched after its end, such as by a tag, failed before.
    new = [
        record
        for record in records
        if record.dagster_run.run_id not in seen
        and (record.end_time is None or record.end_time >= after_s - _OVERLAP_S)
    ]
    last = records[-1].update_timestamp.replace(tzinfo=UTC).timestamp() if records else now_s
    next_s = now_s if len(records) < _MOST_RUNS else max(after_s, last)
    return [_run(instance, record.dagster_run) for record in new], {
        "after": next_s,
        "seen": [record.dagster_run.run_id for record in records],
    }


def _run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> FailedRun:
    said, problems, broke = "", [], False
    for entry in instance.all_logs(run.run_id, of_type=_FAILURES):
        event = entry.dagster_event
        if event is None or not event.is_step_failure:
            said = said or (event.message or "" if event is not None else "")
            continue
        failure = event.step_failure_data
        given = failure.user_failure_data
        named = given.metadata.get("partitions") if given is not None else None
        if given is not None and isinstance(named, dg.MarkdownMetadataValue):
            problems += [line.removeprefix("- ") for line in str(named.value).split("\n- ")]
            said = given.description or said
            continue
        broke = True
        if failure.error is not None:
            said = (failure.error.cause or failure.error).message.strip()
    asked = next((run.tags[tag] for tag in _ASKED_BY if tag in run.tags), run.run_id)
    return FailedRun(run.run_id, run.job_name, asked, said[:1000], () if broke else tuple(problems))


def _promotions(
    models: Models, cursor: Mapping[str, int] | None, now_s: float
) -> tuple[list[Line], dict[str, int]]:
    """The lines of the promotion ledger since the last look."""
    lines = models.registry.ledger.by_use()
    first = iso(now_s - FIRST_LOOK_S)
    new = [
        line
        for use, found in lines.items()
        for number, line in enumerate(found)
        if (line.at >= first if cursor is None else number >= cursor.get(use, 0))
    ]
    return new, {use: len(found) for use, found in lines.items()}


def _health(
    settings: Settings, models: Models, cursor: Mapping[str, Any]
) -> tuple[list[Ailing], dict[str, Any]]:
    """The champions beyond their limits. What takes seconds is looked at again when what it rests on has changed."""
    found, kept = [], {}
    for use, champion in _champions(models):
        contender = models.contenders.get(champion.model)
        if contender is None:
            continue
        rests_on = [champion.bundle, [models.weekly.current(asset) for asset in contender.assets]]
        digest = hashlib.sha256(json.dumps(rests_on, sort_keys=True, default=dict).encode()).hexdigest()[:32]
        before = cursor.get(use, {})
        said = _unreadable(models, champion)
        if not said:
            said = before["said"] if before.get("of") == digest else _of_data(models, champion)
            kept[use] = {"of": digest, "said": said}
        service = Health(service=in_service(settings.service_health, champion))
        ailing = [*said, *breaches(service, contender.policy.limits, contender.measure)]
        if ailing:
            found.append(Ailing(use, f"{champion.model}@{champion.week}", ailing))
    return found, kept


def _unreadable(models: Models, champion: Served) -> list[str]:
    try:
        read_bundle(models.registry.bundles, champion.bundle)
    except DamagedBundle as error:
        return [str(error)]
    return []


def _of_data(models: Models, champion: Served) -> list[str]:
    """How a champion breaches its limits, by its weekly tests."""
    contender = models.contenders[champion.model]
    try:
        health = health_of(models, champion, None)
    except PlatformError as error:
        return [str(error)]
    return [*health.unreadable, *breaches(health, contender.policy.limits, contender.measure)]


def _over_budget(models: Models) -> Iterator[tuple[str, list[str]]]:
    """What champions took when they were promoted, beyond the budgets that are declared now."""
    for use, champion in _champions(models):
        contender = models.contenders.get(champion.model)
        promoted = [line for line in models.registry.ledger.lines(use) if line.after == champion]
        measured = next((line.measured for line in reversed(promoted) if line.measured), None)
        if contender is not None and measured is not None:
            looked_up = measured.get("with_features")
            taken = {**measured, "with_features": WithFeatures(**looked_up) if looked_up else None}
            yield use, over_budget(Measured(**taken), contender.budget)


def _champions(models: Models) -> Iterable[tuple[str, Served]]:
    lines = models.registry.ledger.by_use()
    for use in models.uses:
        champion = standing_of(lines.get(use, ())).champion
        if champion is not None:
            yield use, champion


def _spent(workspace: Workspace, now_s: float) -> dict[str, float]:
    """Processor seconds of the present UTC day, and within its first hour of the day before, whose end is known then."""
    days = {int(s // 86_400) for s in (now_s, now_s - 3_600)}
    spent = workspace.lake.index.cpu_s_between
    return {day_key(day): spent(day * 86_400.0, (day + 1) * 86_400.0) for day in sorted(days)}
