"""What Dagster is told of assets before anything runs: partitions, edges, columns, checks, freshness."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import dagster as dg

from my_platform.incremental.declare import DECIDED, LANDED, SERVED, Asset, Grain, Read, week_start
from my_platform.operations.heads import asset_key
from my_platform.operations.lineage import described, lineage_metadata
from my_platform.operations.platform import Project

_WEDNESDAY = 3


@dataclass(frozen=True)
class Span:
    """First day of the data, and the last one of a closed data set."""

    first: date
    last: date | None


def partitions_of(grain: Grain, span: Span) -> dg.PartitionsDefinition | None:
    """Days from the first one; weeks from the first Wednesday on, each from its first day."""
    if grain is Grain.ONCE:
        return None
    if grain is Grain.DAY:
        if span.last is None:
            return dg.DailyPartitionsDefinition(span.first.isoformat())
        return dg.DailyPartitionsDefinition(
            span.first.isoformat(), end_date=(span.last + timedelta(days=1)).isoformat()
        )
    if span.last is None:
        return dg.WeeklyPartitionsDefinition(span.first.isoformat(), day_offset=_WEDNESDAY, end_offset=1)
    end = week_start(span.last + timedelta(days=1)) + timedelta(days=7)
    return dg.WeeklyPartitionsDefinition(
        span.first.isoformat(), day_offset=_WEDNESDAY, end_date=end.isoformat()
    )


def asset_spec(
    project: Project,
    asset: Asset,
    partitions: dg.PartitionsDefinition | None,
    spans: Mapping[str, tuple[int, int]],
    span: Span,
) -> dg.AssetSpec:
    """The catalogue's entry of an asset.

    Args:
        spans: ``widest_reads`` of the assets that it is computed with.
        span: the days of the data.
    """
    columns = [
        dg.TableColumn(name, str(column.type), described(project, asset, name))
        for name, column in asset.columns.items()
    ]
    metadata: dict[str, Any] = {**asset.shown, **lineage_metadata(project, asset)}
    if columns:
        metadata["dagster/column_schema"] = dg.TableSchema(columns=columns)
    for name, read in asset.reads.items():
        metadata[f"reads {name}"] = _in_words(read, project)
    return dg.AssetSpec(
        asset_key(asset.name),
        deps=_deps(project, asset, spans),
        description=asset.description,
        group_name=asset.group,
        owners=list(asset.owners),
        kinds=set(asset.kinds),
        tags=dict(asset.tags),
        code_version=project.code_versions[asset.name],
        partitions_def=partitions,
        metadata=metadata,
        freshness_policy=_freshness(asset, span),
        skippable=True,
    )


def _freshness(asset: Asset, span: Span) -> dg.FreshnessPolicy | None:
    """That a day is there by its hour; a data set that has ended is never late."""
    if asset.due_h is None or asset.grain is not Grain.DAY or span.last is not None:
        return None
    return dg.FreshnessPolicy.cron(
        deadline_cron=f"0 {asset.due_h % 24} * * *", lower_bound_delta=timedelta(hours=24), timezone="UTC"
    )


def check_specs(
    project: Project, names: Sequence[str], partitions: dg.PartitionsDefinition | None
) -> list[dg.AssetCheckSpec]:
    """The checks of the named assets, whichever assets answer them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(
                check.name,
                asset=asset_key(check.about or asset.name),
                description=check.description or None,
                metadata={"severity": check.severity, **check.metadata},
                partitions_def=partitions,
            )
            for asset in project.assets.values()
            for check in asset.own_checks
            if (check.about or asset.name) in names
        ]


def widest_reads(project: Project, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The widest window over each input: Dagster takes one mapping for an input of a multi-asset."""
    spans: dict[str, tuple[int, int]] = {}
    for name in names:
        for read in project.assets[name].reads.values():
            first, last = spans.get(read.asset, (read.first, read.last))
            spans[read.asset] = (min(first, read.first), max(last, read.last))
    return spans


def _deps(project: Project, asset: Asset, spans: Mapping[str, tuple[int, int]]) -> list[dg.AssetDep]:
    parents = sorted({read.asset for read in asset.reads.values() if not read.asset.startswith(LANDED)})
    return [
        dg.AssetDep(
            asset_key(name),
            partition_mapping=_mapping(project.assets[name].grain, asset.grain, *spans[name]),
        )
        for name in parents
    ]


def _mapping(parent: Grain, child: Grain, first: int, last: int) -> dg.PartitionMapping | None:
    """Dagster's edge, widened to whole weeks for weekly assets; the planner holds the exact reads."""
    if Grain.ONCE in (parent, child):
        return None
    unit = 7 if child is Grain.WEEK else 1
    width = 7 if parent is Grain.WEEK else 1
    start, end = first // unit, -((unit - width - last) // unit)
    if parent is child and (start, end) == (0, 0):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.TimeWindowPartitionMapping(
            start_offset=start, end_offset=end, allow_nonexistent_upstream_partitions=True
        )


def _in_words(read: Read, project: Project) -> str:
    if read.asset.startswith(DECIDED):
        return "rows that people let in after all"
    if read.asset.startswith(SERVED):
        return f"who is champion of {read.asset.removeprefix(SERVED)} on the day"
    if read.asset.startswith(LANDED):
        return f"landed files of {read.asset.removeprefix(LANDED)}"
    if project.assets[read.asset].grain is Grain.ONCE:
        return f"{read.asset}, whole"
    gaps = {"wait": "waits for gaps", "pass": "passes over gaps", "optional": "where there are any"}[
        read.gaps
    ]
    return f"{read.asset}, days {read.first:+d} to {read.last:+d}, {gaps}"
