"""Metrics of the platform in Prometheus' text format (version 0.0.4): what is owed, what was computed, what it cost.

All are read off the home when somebody asks; nothing counts along. Counters go back where the index is deleted.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg

from my_platform.incremental.declare import Grain
from my_platform.incremental.planner import Action
from my_platform.learning.ledger import standing_of
from my_platform.learning.registry_place import RegistryPlace
from my_platform.operations.alerts.said import read_state
from my_platform.operations.heads import DagsterHeads
from my_platform.operations.missing import missing
from my_platform.operations.platform import Workspace
from my_platform.operations.refresh import Planned, look_ahead
from my_platform.settings import Settings
from my_platform.storage.lake import ABSENT
from my_platform.storage.trace_index import Totals

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STATES: Mapping[str, tuple[tuple[Action, ...], str]] = {
    "owed": ((Action.COMPUTE, Action.LATER), "that a refresh computes for certain"),
    "possible": ((Action.POSSIBLE,), "that a refresh computes if a parent comes out changed"),
    "waiting": ((Action.WAITING,), "whose inputs have not all landed"),
    "refused": ((Action.REFUSED,), "whose present inputs were refused"),
}
_RUNS: Mapping[str, Sequence[dg.DagsterRunStatus]] = {
    "queued": [dg.DagsterRunStatus.QUEUED],
    "starting": [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING],
    "under_way": [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING],
}
_ENDED: Mapping[str, Sequence[dg.DagsterRunStatus]] = {
    "success": [dg.DagsterRunStatus.SUCCESS],
    "failure": [dg.DagsterRunStatus.FAILURE],
    "canceled": [dg.DagsterRunStatus.CANCELED],
}
_DAY_S = 86_400


@dataclass(frozen=True)
class Metric:
    """A metric with its samples: labels and value of each."""

    name: str
    kind: Literal["counter", "gauge"]
    text: str
    samples: Sequence[tuple[Mapping[str, str], float]]


def collect(settings: Settings, workspace: Workspace, heads: DagsterHeads) -> list[Metric]:
    """All metrics of a home as they stand now; runs nothing."""
    now_s = time.time()
    planned = look_ahead(workspace, heads)
    return [
        Metric("my_platform_looked_at_seconds", "gauge", "When this was read, since 1970", [({}, now_s)]),
        *_partitions(workspace, heads, planned),
        *_spent(workspace),
        *_data(workspace, now_s),
        *_runs(heads.instance),
        *_models(settings),
        _alerts(settings),
    ]


def exposition(metrics: Sequence[Metric]) -> str:
    """Metrics in the text format."""
    lines = []
    for metric in metrics:
        lines += [
            f"# HELP {metric.name} {_escaped(metric.text, quotes=False)}",
            f"# TYPE {metric.name} {metric.kind}",
        ]
        for labels, value in metric.samples:
            told = ",".join(f'{name}="{_escaped(of)}"' for name, of in labels.items())
            lines.append(f"{metric.name}{{{told}}} {value!r}" if told else f"{metric.name} {value!r}")
    return "\n".join(lines) + "\n"


def as_json(metrics: Sequence[Metric]) -> dict[str, Any]:
    """The shape that the command line prints."""
    return {
        metric.name: [{"labels": dict(labels), "value": value} for labels, value in metric.samples]
        for metric in metrics
    }


def _partitions(workspace: Workspace, heads: DagsterHeads, planned: Planned) -> Iterator[Metric]:
    assets = sorted(workspace.project.assets)
    current = heads.read(assets)
    have = {asset: sum(v != ABSENT for v in found.values()) for asset, found in current.items()}
    text = "Partitions that have a value"
    yield Metric("my_platform_current_partitions", "gauge", text, _by_asset(assets, have))
    for name, (actions, text) in _STATES.items():
        counts = Counter(entry.asset for entry in planned.entries if entry.action in actions)
        yield Metric(
            f"my_platform_{name}_partitions", "gauge", f"Partitions {text}", _by_asset(assets, counts)
        )
    reused = workspace.lake.index.reused()
    text = "Partitions that got a stored value back instead of being computed"
    yield Metric("my_platform_reused_partitions_total", "counter", text, _by_asset(assets, reused))
    stored = workspace.lake.index.stored_bytes()
    yield Metric("my_platform_stored_bytes", "gauge", "Bytes of stored values", _by_asset(assets, stored))


def _spent(workspace: Workspace) -> Iterator[Metric]:
    assets = sorted(workspace.project.assets)
    spent = workspace.lake.index.spent()
    for field, name, text in (
        ("partitions", "computed_partitions", "Partitions that were computed"),
        ("cpu_s", "cpu_seconds", "Processor seconds of computing partitions"),
        ("wall_s", "wall_seconds", "Seconds by the clock of computing partitions"),
        ("gpu_s", "gpu_seconds", "Seconds for which CUDA devices were held, times their number"),
        (
            "gpu_idle_s",
            "gpu_idle_seconds",
            "The part of those in which the devices had nothing to do, where that was told",
        ),
        ("read_bytes", "read_bytes", "Bytes of inputs that were read to compute partitions"),
        ("written_bytes", "written_bytes", "Bytes of values that were computed"),
    ):
        values = {asset: getattr(spent.get(asset, Totals()), field) for asset in assets}
        yield Metric(f"my_platform_{name}_total", "counter", text, _by_asset(assets, values))


def _data(workspace: Workspace, now_s: float) -> Iterator[Metric]:
    """Of the tables that land by day."""
    ages = []
    for table, grain in sorted(workspace.project.tables.items()):
        days = workspace.landed[table].digests
        if grain is Grain.DAY and days:
            ages.append(({"table": table}, now_s - (max(days) + 1) * _DAY_S))
    yield Metric("my_platform_data_age_seconds", "gauge", "Since the end of the newest landed day", ages)
    gone = missing(workspace, now_s)
    late = [
        ({"table": asset.source}, float(len(gone.get(asset.name, ()))))
        for asset in sorted(workspace.project.assets.values(), key=lambda asset: asset.name)
        if asset.source is not None and asset.due_h is not None and asset.grain is Grain.DAY
    ]
    yield Metric("my_platform_missing_days", "gauge", "Days that are due and have not landed", late)


def _runs(instance: dg.DagsterInstance) -> Iterator[Metric]:
    def counted(by: Mapping[str, Sequence[dg.DagsterRunStatus]]) -> list[tuple[Mapping[str, str], float]]:
        return [
            ({"status": status}, float(instance.get_runs_count(dg.RunsFilter(statuses=list(found)))))
            for status, found in by.items()
        ]

    yield Metric("my_platform_runs", "gauge", "Runs that have not ended", counted(_RUNS))
    text = "Runs that have ended, as far as they are kept"
    yield Metric("my_platform_ended_runs_total", "counter", text, counted(_ENDED))


def _models(settings: Settings) -> Iterator[Metric]:
    champions, changes = [], []
    for use, lines in RegistryPlace.of(settings).promotions().by_use().items():
        champion = standing_of(lines).champion
        if champion is not None:
            champions.append(({"use": use, "model": champion.model, "week": champion.week}, 1.0))
        actions = Counter[str](line.action for line in lines)
        changes += [
            ({"use": use, "action": action}, float(actions[action])) for action in ("promote", "rollback")
        ]
    yield Metric("my_platform_champion", "gauge", "1 for the model that is to serve a use", champions)
    yield Metric("my_platform_promotions_total", "counter", "Promotions and rollbacks", changes)


def _alerts(settings: Settings) -> Metric:
    state = read_state(settings.alerts / "state.json")
    lasting = [each.alert for each in state.open.values()] if state is not None else []
    counts = Counter((alert.kind, alert.severity) for alert in lasting)
    samples = [({"kind": kind, "severity": how}, float(n)) for (kind, how), n in sorted(counts.items())]
    return Metric("my_platform_alerts", "gauge", "Alerts that last, as the last look found them", samples)


def _by_asset(assets: Sequence[str], values: Mapping[str, float]) -> list[tuple[Mapping[str, str], float]]:
    """A sample of every asset, so that what begins to count is seen to rise from zero."""
    return [({"asset": asset}, float(values.get(asset, 0))) for asset in assets]


def _escaped(text: str, *, quotes: bool = True) -> str:
    found = text.replace("\\", r"\\").replace("\n", r"\n")
    return found.replace('"', r"\"") if quotes else found
