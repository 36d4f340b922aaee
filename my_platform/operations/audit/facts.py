"""Reading what an audit looks at: the cost ledger, the traces, the runs of Dagster, and when files landed."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg

from my_platform.incremental.declare import Grain, day_key, ordinal
from my_platform.incremental.planner import Action
from my_platform.operations.audit.findings import FailedWork, Spendings
from my_platform.operations.audit.levels import History, Promoted
from my_platform.operations.audit.trends import LEAST_WEEKS, Computed, Trend, trends, week_of
from my_platform.operations.missing import missing
from my_platform.operations.outcome import Heads
from my_platform.operations.platform import Workspace
from my_platform.operations.refresh import plan_as_it_is
from my_platform.storage.trace_index import Cost

_MOST_RUNS = 1_000
_DAY_S = 86_400.0
_TREES = {"lightgbm", "xgboost", "catboost"}
_UNTAKEN = (Action.COMPUTE, Action.REUSE, Action.REFUSED)
_NOT_DONE = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def spendings(workspace: Workspace, instance: dg.DagsterInstance) -> Spendings:
    """What was spent in a home; of failed runs the last ``_MOST_RUNS``."""
    ledger = list(workspace.lake.index.costs())
    project = workspace.project
    contenders = project.contenders
    devices = {asset.pool for asset in project.assets.values() if asset.gpus and asset.pool}
    return Spendings(
        ledger,
        computed_values(workspace),
        _failed(instance, ledger),
        frozenset(one.model for one in contenders),
        frozenset(name for one in contenders for name in (one.predictions, one.evaluation)),
        frozenset(
            asset.name
            for asset in project.assets.values()
            if _TREES & set(asset.kinds) and (asset.gpus or asset.pool in devices)
        ),
        frozenset(asset.name for asset in project.assets.values() if asset.grain is Grain.DAY),
        _windows(workspace),
        {
            asset.name: frozenset(read.asset for read in asset.reads.values())
            for asset in project.assets.values()
        },
    )


def computed_values(workspace: Workspace) -> dict[tuple[str, str, str], Computed]:
    """What stored values have been computed to, by asset, partition and fingerprint."""
    return {
        (trace.asset, trace.partition, trace.fingerprint): Computed(trace.data_version, trace.rows)
        for trace in workspace.lake.index.traces(list(workspace.project.assets))
    }


def trends_of_the_day(
    workspace: Workspace, cursor: Mapping[str, Any], now_s: float
) -> tuple[list[Trend], Mapping[str, Any]]:
    """What takes more per row from week to week, and the cursor for the next look.

    Alerts are looked for every minute, and what grows over weeks is read once a day (UTC).
    """
    day = int(now_s // _DAY_S)
    if cursor.get("day") == day:
        return [Trend(**each) for each in cursor["found"]], cursor
    ledger = list(workspace.lake.index.costs())
    weeks = {week_of(cost.at_s) for cost in ledger}
    enough = len(weeks) >= LEAST_WEEKS
    found = trends(ledger, computed_values(workspace), _windows(workspace)) if enough else []
    return found, {"day": day, "found": [asdict(each) for each in found]}


def history(workspace: Workspace, heads: Heads) -> History:
    """When files landed and what was computed and promoted since."""
    assets = workspace.project.assets
    return History(
        landed=_landed(workspace),
        missing={
            source: days
            for name, days in missing(workspace).items()
            if (source := assets[name].source) is not None
        },
        untaken=_untaken(workspace, heads),
        due_h={
            asset.source: asset.due_h
            for asset in assets.values()
            if asset.source is not None and asset.due_h is not None and asset.grain is Grain.DAY
        },
        ledger=list(workspace.lake.index.costs()),
        grains={asset.name: asset.grain.value for asset in assets.values() if asset.grain is not Grain.ONCE},
        models=frozenset(one.model for one in workspace.project.contenders),
        reports=frozenset(one.evaluation for one in workspace.project.contenders),
        sources={asset.name: _sources(workspace, asset.name) for asset in assets.values()},
        code={
            (trace.asset, trace.partition, trace.fingerprint): trace.code_version
            for trace in workspace.lake.index.traces(list(assets))
        },
        promoted=_promoted(workspace),
    )


def _windows(workspace: Workspace) -> dict[str, int]:
    """By asset, the days before a partition that it reads."""
    return {
        asset.name: max((-read.first for read in asset.reads.values()), default=0)
        for asset in workspace.project.assets.values()
    }


def _untaken(workspace: Workspace, heads: Heads) -> dict[str, list[str]]:
    """By raw asset, the days whose landed file is not what is current."""
    found: dict[str, list[str]] = defaultdict(list)
    for entry in plan_as_it_is(workspace, heads).entries:
        asset = workspace.project.assets[entry.asset]
        if asset.source is not None and asset.grain is Grain.DAY and entry.action in _UNTAKEN:
            found[asset.name].append(day_key(entry.key))
    return found


def _sources(workspace: Workspace, name: str) -> frozenset[str]:
    """The landed tables that an asset is made of."""
    found = (workspace.project.assets[each].source for each in workspace.project.ancestors([name]))
    return frozenset(source for source in found if source is not None)


def _landed(workspace: Workspace) -> dict[str, Mapping[str, float]]:
    """By landed daily table and day: when the last of its files was written, in seconds since 1970."""
    times = {path: file.mtime_ns / 1e9 for path, file in workspace.lake.index.landed().items()}
    found: dict[str, Mapping[str, float]] = {}
    for asset in workspace.project.assets.values():
        if asset.source is None or asset.grain is not Grain.DAY or asset.source not in workspace.landed:
            continue
        of_days = {
            day_key(day): max((times[path] for path in paths if path in times), default=0.0)
            for day, paths in workspace.landed[asset.source].files.items()
        }
        found[asset.source] = {day: at_s for day, at_s in of_days.items() if at_s}
    return found


def _failed(instance: dg.DagsterInstance, ledger: Sequence[Cost]) -> list[FailedWork]:
    committed: dict[str, float] = defaultdict(float)
    for cost in ledger:
        committed[cost.run_id] += cost.wall_s
    found = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=_NOT_DONE), limit=_MOST_RUNS):
        if record.start_time is not None and record.end_time is not None:
            run_id = record.dagster_run.run_id
            found.append(FailedWork(run_id, record.end_time - record.start_time, committed[run_id]))
    return found


def _promoted(workspace: Workspace) -> list[Promoted]:
    ledger = workspace.ledger
    if ledger is None:
        return []
    return [
        Promoted(line.at, line.use, line.after.model, day_key(ordinal(line.after.week) - 1), line.action)
        for lines in ledger.by_use().values()
        for line in lines
    ]
