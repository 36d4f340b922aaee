"""The facts that a retraining policy is held against, from the plan, stored values, the registry and the cost ledger."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Any

import polars as pl

from my_platform.errors import DamagedBundle, DamagedObject
from my_platform.incremental.declare import day_key
from my_platform.incremental.planner import Action, plan_asset
from my_platform.learning.bundle import read_bundle
from my_platform.learning.contender import Contender
from my_platform.learning.retraining.facts import Aged, Facts, Moved
from my_platform.learning.retraining.policy import Retraining
from my_platform.operations.health import score_drift
from my_platform.operations.models import Models
from my_platform.operations.outcome import Heads
from my_platform.operations.platform import Workspace
from my_platform.operations.refresh import Planned
from my_platform.quality.checks import PREFIX
from my_platform.quality.profiles import table_name
from my_platform.storage.retraining import CHALLENGER, KEPT, FitDecision

_DRIFT_CHECK = "drift"
_FITS_OF_A_MEAN = 4


@dataclass(frozen=True)
class Weeks:
    """The weeks of a model: those that could be fitted, those of them that cost nothing, and their tests."""

    fittable: Sequence[str]
    stored: Sequence[str]
    labelled: Sequence[str]


@dataclass(frozen=True)
class Scored:
    """The model whose scores tell how it ages: the one that serves, or else the one that was fitted last."""

    name: str
    week: str
    files: Mapping[str, bytes]


def weeks_of(workspace: Workspace, heads: Heads, planned: Planned, contender: Contender) -> Weeks:
    """The weeks of a model, as if all of them were wanted."""
    node = replace(workspace.project.nodes[contender.model], wanted="")
    current = heads.read([node.name])[node.name]
    past = workspace.lake.past(node.name, node.grain, node.code, current, heads)
    state, entries = plan_asset(node, planned.states, past, *workspace.domain(node))
    undecided = set(state.keys()) - workspace.wanted[node.name]
    costs = {entry.key for entry in entries if entry.action is not Action.REUSE}
    labelled = map(day_key, planned.states[contender.test_set].keys())
    return Weeks(
        [day_key(key) for key in sorted(undecided)],
        [day_key(key) for key in sorted(undecided - costs)],
        sorted(week for week in labelled if week not in contender.chosen_on),
    )


def facts_of(
    models: Models,
    weeks: Weeks,
    decisions: Sequence[FitDecision],
    policy: Retraining,
    contender: Contender,
    now_s: float,
) -> Facts:
    """The facts of a model as they are now; only those that its policy asks for cost time.

    Args:
        decisions: about the model, the earliest first.
        now_s: the time, in seconds since 1970.
    """
    workspace, model = models.workspace, contender.model
    decided = [decision.week for decision in decisions]
    scored = _scored(models, contender) if policy.drift is not None or policy.decay is not None else None
    costs = [cost for cost in workspace.lake.index.costs() if cost.asset == model]
    since_s = now_s - timedelta(days=policy.budget_days).total_seconds()
    spent = [cost for cost in costs if cost.at_s > since_s]
    current = models.weekly.current(model)
    since = datetime.fromtimestamp(since_s, UTC).isoformat()
    pending = sum(
        decision.role != KEPT and decision.week not in current and decision.at > since
        for decision in decisions
    )
    asked_for = [decision for decision in decisions if decision.role == CHALLENGER]
    a_fit = fmean(cost.cpu_s for cost in costs[-_FITS_OF_A_MEAN:]) if costs else 0.0
    return Facts(
        fittable=weeks.fittable,
        stored=weeks.stored,
        decided=decided,
        challengers=[decision.week for decision in asked_for],
        labelled=weeks.labelled,
        recipe=models.weekly.recipe(model),
        last_recipe=asked_for[-1].recipe if asked_for else "",
        moved=_moved(models, contender, scored) if policy.drift is not None else None,
        aged=_aged(models, contender, scored) if policy.decay is not None else None,
        drifted=_drifted(models, model) if policy.drifted_days is not None else (),
        fits=len(spent) + pending,
        cpu_s=sum(cost.cpu_s for cost in spent) + pending * a_fit,
        cpu_s_a_fit=a_fit,
    )


def mark_of(models: Models, weeks: Weeks, contender: Contender, decided: Sequence[str], now_s: float) -> str:
    """A digest of all that the facts are made from: while it is the same, so is what a policy says."""
    asked = [contender.model, contender.test_set, *_checks(models.workspace, contender.model)]
    said: dict[str, Any] = {
        "policy": repr(contender.retraining),
        "weeks": [weeks.fittable, weeks.stored, weeks.labelled, list(decided)],
        "heads": {name: dict(models.weekly.current(name)) for name in asked},
        "serves": models.registry.ledger.standing(contender.use).lines,
        "recipe": models.weekly.recipe(contender.model),
        # What was spent leaves the days of the budget as time goes by.
        "spent": [contender.model, datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H")],
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def _scored(models: Models, contender: Contender) -> Scored | None:
    """The model that is looked at; None where there is none, or it cannot be read."""
    champion = models.registry.ledger.standing(contender.use).champion
    try:
        # The features that there are now are those of the present code: they tell nothing of a champion of another one.
        own = (contender.model, models.weekly.recipe(contender.model))
        if champion is not None and (champion.model, champion.recipe) == own:
            files = read_bundle(models.registry.bundles, champion.bundle).files
            return Scored(f"{champion.model} {champion.week}", champion.week, files)
        fitted = models.weekly.current(contender.model)
        if not fitted:
            return None
        week = max(fitted)
        table = models.workspace.lake.read(contender.model, week, fitted[week])
        return Scored(f"{contender.model} {week}", week, dict(table.select("name", "content").rows()))
    except (DamagedBundle, DamagedObject):
        return None


def _moved(models: Models, contender: Contender, scored: Scored | None) -> Moved | None:
    if scored is None:
        return None
    try:
        index, week = score_drift(models, contender, scored.week, scored.files)
    except DamagedObject:
        return None
    return Moved(scored.name, week, index) if index is not None else None


def _aged(models: Models, contender: Contender, scored: Scored | None) -> Aged | None:
    """The model's measure on its first labelled week, and on the latest one."""
    if scored is None:
        return None
    there = models.weekly.current(contender.test_set)
    first, *later = [week for week in sorted(there) if week >= scored.week] or [""]
    if not later:
        return None
    measure, score = contender.measure, contender.load(scored.files)
    try:
        before, found = (_rows(models, contender, week, score) for week in (first, later[-1]))
    except DamagedObject:
        return None
    if not measure.tells(before) or not measure.tells(found):
        return None
    return Aged(scored.name, first, measure.value(before), later[-1], measure.interval(found))


def _rows(models: Models, contender: Contender, week: str, score: Any) -> pl.DataFrame:
    """The test rows of a week as a measure takes them, scored by one model whatever week it is of."""
    columns = contender.columns
    version = models.weekly.current(contender.test_set)[week]
    names = [columns.key, columns.time, columns.cluster, columns.label, *columns.features]
    tested = models.workspace.lake.read(contender.test_set, week, version, list(dict.fromkeys(names)))
    return tested.select(
        key=columns.key,
        day=pl.col(columns.time).dt.date(),
        cluster=columns.cluster,
        label=columns.label,
        score=pl.Series(score(tested.select(columns.features))),
    ).sort("key")


def _checks(workspace: Workspace, model: str) -> list[str]:
    """The assets that check the daily tables which a model is made from."""
    tables = {f"{PREFIX}{table_name(name)}" for name in workspace.project.ancestors([model])}
    return sorted(
        name
        for name in tables & workspace.project.assets.keys()
        if any(check.name == _DRIFT_CHECK for check in workspace.project.assets[name].own_checks)
    )


def _drifted(models: Models, model: str) -> list[str]:
    """The days on which a drift check failed of a table that a model is made from."""
    found = set()
    for asset in _checks(models.workspace, model):
        for day, version in models.weekly.current(asset).items():
            record = models.workspace.lake.record(asset, day, version) or {}
            if any(not each["passed"] for each in record.get("checks", ()) if each["check"] == _DRIFT_CHECK):
                found.add(day)
    return sorted(found)
