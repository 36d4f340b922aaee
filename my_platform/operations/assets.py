"""Dagster assets of a project: one node for each grain, whose run computes exactly what is owed.

All assets of a grain form one multi-asset that can be subset; those of a pool form one of their own, as a pool
holds back a whole step. It logs one materialization for each partition
at the moment the partition becomes current, so that each carries its own data version and the next asset of
the run finds it. It yields an output only where another node of the same run waits for one: Dagster stamps
that output on all partitions of the run with one data version, so the partitions are logged again after it.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg

from my_platform.errors import PlatformError
from my_platform.incremental.declare import Asset, Grain, ordinal
from my_platform.incremental.planner import Action, waits_for
from my_platform.learning.registry import Registry
from my_platform.operations.analysts import keep_current
from my_platform.operations.check_results import follow, settle, tell_again, to_settle
from my_platform.operations.execution import Execution
from my_platform.operations.faults import MOST_TRIES, in_words, is_infrastructure, wait_s, was_waited_for
from my_platform.operations.heads import DATA_VERSION_TAG, DagsterHeads, Step, asset_key, wrong_instance
from my_platform.operations.health import look_after
from my_platform.operations.models import Models
from my_platform.operations.orphans import tag_process
from my_platform.operations.outcome import Outcome, Request
from my_platform.operations.platform import Project, Workspace
from my_platform.operations.promotion import put_forward
from my_platform.operations.quality_report import show_quality
from my_platform.operations.refresh import Planned, plan_as_it_is
from my_platform.operations.retraining.reasons import reason_tags
from my_platform.operations.specs import Span, asset_spec, check_specs, partitions_of, widest_reads
from my_platform.storage.lake import partition_key

_BACKFILL_TAG = "dagster/backfill"
_RANK = {Grain.ONCE: 0, Grain.DAY: 1, Grain.WEEK: 2}
_NODE = {Grain.ONCE: "unpartitioned", Grain.DAY: "daily", Grain.WEEK: "weekly"}


@dataclass(frozen=True)
class Place:
    """Where runs may happen.

    Attributes:
        lock: a file that is locked while heads are compared and set.
        dagster_home: the only instance that runs may be on; None for any.
        analysts_database: the database that is kept current; None for none.
        registry: of the models, whose challengers are named after a run; None for none.
        reports: the folder of reports; None for none.
        service_health: the file in which a service tells how it does; None for none.
    """

    lock: Path
    dagster_home: Path | None = None
    analysts_database: Path | None = None
    registry: Registry | None = None
    reports: Path | None = None
    service_health: Path | None = None


def build_assets(workspace: Workspace, span: Span, place: Place) -> list[dg.AssetsDefinition]:
    """The Dagster assets of a workspace."""
    project = workspace.project
    levels: dict[str, int] = {}
    for node in project.order:
        levels[node.name] = max(
            (
                levels[r.asset] + (_place(project.assets[r.asset]) > _place(project.assets[node.name]))
                for _, r in node.reads
                if r.asset in project.assets
            ),
            default=0,
        )
    groups: dict[tuple[int, Grain, str], list[str]] = {}
    for node in project.order:
        groups.setdefault((levels[node.name], node.grain, project.assets[node.name].pool or ""), []).append(
            node.name
        )
    return [
        _node(
            workspace,
            names,
            grain,
            "_".join([_NODE[grain], *([pool] if pool else []), *([str(level)] if level else [])]),
            span,
            place,
        )
        for (level, grain, pool), names in groups.items()
    ]


def _place(asset: Asset) -> tuple[int, str]:
    """Where an asset's node stands among those of a level: a node reads what stands before it, or itself."""
    return _RANK[asset.grain], asset.pool or ""


def _node(
    workspace: Workspace, names: Sequence[str], grain: Grain, name: str, span: Span, place: Place
) -> dg.AssetsDefinition:
    project = workspace.project
    partitions = partitions_of(grain, span)
    spans = widest_reads(project, names)

    @dg.multi_asset(
        name=name,
        specs=[asset_spec(project, project.assets[n], partitions, spans, span) for n in names],
        check_specs=check_specs(project, names, partitions),
        can_subset=True,
        partitions_def=partitions,
        pool=project.assets[names[0]].pool,
        backfill_policy=dg.BackfillPolicy.single_run() if partitions else None,
        description=f"Computes what is owed of the {_NODE[grain]} assets that a run selects.",
    )
    def node(context: dg.AssetExecutionContext) -> Iterator["dg.MaterializeResult[Any]"]:
        with retried(context.op_execution_context):
            yield from _execute(context, workspace, grain, place)

    return node


def _execute(
    context: dg.AssetExecutionContext, workspace: Workspace, grain: Grain, place: Place
) -> Iterator["dg.MaterializeResult[Any]"]:
    project, keys = workspace.project, _keys(context, grain)
    names = frozenset(key.to_user_string() for key in context.selected_asset_keys)
    checked = _answering(context, project) - names
    along = _on_the_way(project, names, checked)
    events: list[dg.AssetMaterialization] = []

    def record(event: dg.AssetMaterialization | dg.AssetObservation) -> None:
        context.log_event(event)
        if isinstance(event, dg.AssetMaterialization):
            events.append(event)

    heads = open_for_run(context.op_execution_context, workspace, place, record)
    tell_again(workspace, heads, sorted(checked - along), keys)
    asked = _asked(context, project, names, along, keys)
    outcome = Execution(workspace, heads, asked, log=context.log.info).run()
    tell_reasons(context.op_execution_context, workspace, outcome)
    serve_analysts(context.op_execution_context, workspace, heads, place)
    name_champion(context.op_execution_context, workspace, heads, place, outcome)
    # What waits in these has an event that says so, and does not keep the backfill from going on.
    for name in asked.awaited | along:
        outcome.waiting.pop(name, None)
    planned = cache(lambda: plan_as_it_is(workspace, heads))
    later = _later(context, project, names)
    if later:
        # Dagster skips all that comes after a step that failed. What waits is told by the last one, but where nothing is
        # there of an asset that it reads.
        known = {event.asset_key.to_user_string() for event in events}
        for name in known | (names - project.ancestors(sorted(later))):
            outcome.waiting.pop(name, None)
    elif earlier := _told_last(context, project) - names:
        for asset, partition, reason in _waits(project, planned(), earlier, keys):
            outcome.waiting.setdefault(asset, {})[partition] = reason
    follow(workspace, heads, outcome, lambda: planned().entries)
    show_quality(workspace, heads, place.reports, outcome, planned)
    if outcome.faults:
        retry(context.op_execution_context, outcome)
    fail_on_problems(outcome, waiting=True)
    yield from _outputs(context, project, names, events, heads, several=len(keys) > 1)
    settle(workspace, heads, to_settle(workspace, lambda: planned().entries))


@contextmanager
def retried(context: dg.OpExecutionContext) -> Iterator[None]:
    """Have Dagster try a step again, later each time, that storage or network broke off."""
    try:
        yield
    except Exception as error:
        attempt = context.retry_number + 1
        if not is_infrastructure(error):
            raise
        if attempt >= MOST_TRIES or was_waited_for(error):
            raise dg.Failure(in_words(error), allow_retries=False) from error
        raise dg.RetryRequested(MOST_TRIES - 1, wait_s(attempt + 1)) from error


def retry(context: dg.OpExecutionContext, outcome: Outcome) -> None:
    """Have Dagster try a step again of which storage or network failed partitions; what is done stays done."""
    attempt = context.retry_number + 1
    if attempt < MOST_TRIES:
        problems = [outcome.failed[asset][partition] for asset, partition in outcome.faults.values()]
        context.log.warning(f"{len(problems)} partitions are tried again: {problems[0]}")
        raise dg.RetryRequested(MOST_TRIES - 1, wait_s(attempt + 1))


def _answering(context: dg.AssetExecutionContext, project: Project) -> frozenset[str]:
    """The assets that answer the checks that a run selects."""
    return frozenset(
        asset.name
        for asset in project.assets.values()
        for check in asset.own_checks
        if dg.AssetCheckKey(asset_key(check.about or asset.name), check.name)
        in context.selected_asset_check_keys
    )


def _on_the_way(project: Project, names: frozenset[str], checked: frozenset[str]) -> frozenset[str]:
    """Assets that are computed along with those of a run, as their checks are answered by them or made of them."""
    found = set()
    for name in checked:
        made_of = project.ancestors([name])
        for judged in {check.about for check in project.assets[name].own_checks} & names:
            found |= {other for other in made_of if judged in project.ancestors([other])}
    return frozenset(found - names)


def open_for_run(
    context: dg.OpExecutionContext,
    workspace: Workspace,
    place: Place,
    record: Callable[[dg.AssetMaterialization | dg.AssetObservation], None] | None = None,
) -> DagsterHeads:
    """The heads that a run reads and sets, after the run was found to be on the home's instance.

    Args:
        record: how an event is written, if not as the step's own.

    Raises:
        dg.Failure: the run is on another instance, which knows nothing of what is current.
    """
    reason = wrong_instance(context.instance, place.dagster_home)
    if reason is not None:
        raise dg.Failure(reason, allow_retries=False)
    tag_process(context.instance, context.run_id)
    project = workspace.project
    step = Step(context.run_id, context.job_name, str(context.op_handle), record or context.log_event)
    return DagsterHeads(context.instance, project.assets, project.code_versions, place.lock, step)


def serve_analysts(
    context: dg.OpExecutionContext, workspace: Workspace, heads: DagsterHeads, place: Place
) -> None:
    """Bring the analysts' database to what the run has made; what hinders it is logged, and tried again."""
    if place.analysts_database is None:
        return
    try:
        keep_current(workspace, heads, place.analysts_database)
    except (PlatformError, OSError) as error:
        context.log.warning(f"{place.analysts_database} stays as it was: {error}")


def tell_reasons(context: dg.OpExecutionContext, workspace: Workspace, outcome: Outcome) -> None:
    """Tag a run with the reasons for which it has fitted models, where a policy decides that."""
    tags = reason_tags(workspace, outcome.computed)
    if tags:
        context.instance.add_run_tags(context.run_id, tags)


def name_champion(
    context: dg.OpExecutionContext, workspace: Workspace, heads: DagsterHeads, place: Place, outcome: Outcome
) -> None:
    """Name the challengers among the models that the run has made, and promote; what hinders it is logged."""
    if place.registry is None:
        return
    try:
        models = Models(workspace, heads, place.registry)
        scored = {a for c in models.contenders.values() for a in (c.predictions, c.evaluation)}
        if place.registry.promotes and scored & {*outcome.computed, *outcome.reused}:
            look_after(models, service=place.service_health, act=True, alert=context.log.error)
        put_forward(models, outcome, run_id=context.run_id, log=context.log.info)
    except PlatformError as error:
        context.log.warning(f"no model was put forward: {error}")


def _outputs(
    context: dg.AssetExecutionContext,
    project: Project,
    names: frozenset[str],
    events: Sequence[dg.AssetMaterialization],
    heads: DagsterHeads,
    *,
    several: bool,
) -> Iterator["dg.MaterializeResult[Any]"]:
    """Outputs of the assets that other nodes of this run depend on; without one their steps are skipped."""
    others = _selected(context, project) - names
    awaited = {read.asset for name in others for read in project.assets[name].reads.values()}
    # Dagster takes them parents first.
    for name in (node.name for node in project.order if node.name in names & awaited):
        found = [event for event in events if event.asset_key == asset_key(name)]
        last = found[-1]
        yield dg.MaterializeResult(
            last.asset_key,
            metadata=last.metadata,
            data_version=dg.DataVersion((last.tags or {})[DATA_VERSION_TAG]),
        )
        for event in found if several else ():
            context.log_event(event)
        heads.judge_again(name)


def _selected(context: dg.AssetExecutionContext, project: Project) -> set[str]:
    """The assets of a run, of this step and of others."""
    if len(context.job_def.nodes) == 1:
        return {key.to_user_string() for key in context.selected_asset_keys}
    return {key.to_user_string() for key in context.run.asset_selection or ()} or set(project.assets)


def _later(context: dg.AssetExecutionContext, project: Project, names: frozenset[str]) -> set[str]:
    """The assets of a run that read those of a step, directly or not, and are computed after it."""
    return {
        name
        for name in _selected(context, project) - names
        if not names.isdisjoint(project.ancestors([name]))
    }


def _told_last(context: dg.AssetExecutionContext, project: Project) -> frozenset[str]:
    """The assets of a run of which no other run of the same backfill tells."""
    selected = frozenset(_selected(context, project))
    return selected - _awaited(context, project, selected)


def _waits(
    project: Project, planned: Planned, names: Collection[str], keys: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    """The partitions of a run that wait, and what for."""
    nodes, numbers = {node.name: node for node in project.order}, {ordinal(key) for key in keys}
    for entry in planned.entries:
        if entry.action is Action.WAITING and entry.asset in names and entry.key in numbers:
            node = nodes[entry.asset]
            yield (
                entry.asset,
                partition_key(node.grain, entry.key),
                waits_for(node, entry.key, planned.states),
            )


def fail_on_problems(outcome: Outcome, *, waiting: bool) -> None:
    """End a step as failed, naming the partitions, where something could not be computed."""
    problems = _problems(outcome, waiting=waiting)
    if problems:
        raise dg.Failure(
            description="; ".join(problems[:5])
            + (f"; and {len(problems) - 5} more" if len(problems) > 5 else ""),
            metadata={"partitions": dg.MetadataValue.md("\n".join(f"- {p}" for p in problems))},
            allow_retries=False,
        )


def _asked(
    context: dg.AssetExecutionContext,
    project: Project,
    names: frozenset[str],
    along: frozenset[str],
    keys: Sequence[str],
) -> Request:
    """What a run from the UI, a backfill or a sensor asks for: its assets at its partitions.

    Args:
        along: assets that are brought up to date with them, without an event where they are fresh.
    """
    numbers = frozenset(ordinal(key) for key in keys)
    return Request(
        names | along,
        lambda node, key: node.name in names | along and key in numbers,
        dict.fromkeys(names, keys),
        _awaited(context, project, names),
        context.run.run_id,
    )


def _awaited(context: dg.AssetExecutionContext, project: Project, names: frozenset[str]) -> frozenset[str]:
    """The assets of a run that other runs of the same backfill read, directly or not."""
    backfill_id = context.run.tags.get(_BACKFILL_TAG)
    backfill = context.instance.get_backfill(backfill_id) if backfill_id else None
    if backfill is None or not backfill.asset_selection:
        return frozenset()
    others = {key.to_user_string() for key in backfill.asset_selection} - names
    return names & project.ancestors(sorted(others & project.assets.keys()))


def _keys(context: dg.AssetExecutionContext, grain: Grain) -> list[str]:
    return [""] if grain is Grain.ONCE else list(context.partition_keys)


def _problems(outcome: Outcome, *, waiting: bool) -> list[str]:
    found = [reason for reasons in outcome.failed.values() for reason in reasons.values()]
    if waiting:
        for reasons in (outcome.interrupted, outcome.waiting):
            for asset, by_partition in reasons.items():
                found += [
                    f"{asset} {partition}: {reason}".replace(" :", ":")
                    for partition, reason in by_partition.items()
                ]
    return found
