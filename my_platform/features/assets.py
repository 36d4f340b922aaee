"""A declared feature set as an asset: which partitions it reads, and its computation over any range of days."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from shutil import disk_usage
from typing import Any

import polars as pl

from my_platform.errors import PlatformError
from my_platform.features import offline
from my_platform.features.declaration import Aggregate, FeatureError, FeatureSet, UnsteadyFeature
from my_platform.features.in_buckets import IN_MEMORY, compute_in_buckets, needed_bytes, spilled_bytes
from my_platform.features.online import compile_online
from my_platform.incremental.declare import (
    Asset,
    Batch,
    Column,
    ColumnLineage,
    Grain,
    Produced,
    Read,
    or_each_alone,
    same,
)

# Days that are computed at once: more would only cost memory, the windows before them are read again.
_CHUNK_DAYS = 64
# Of what is free where rows are spilled, what one asset may take.
_SHARE_OF_DISK = 0.5


def feature_asset(feature_set: FeatureSet, *, rows: Asset, events: Asset, **catalogue: Any) -> Asset:
    """The daily asset of a feature set.

    A day waits for its own rows and, where another table is aggregated, for that table's own day; it passes
    over days that are missing further back in a window and names them.
    """
    window = feature_set.reads()
    reads = {
        "rows": same(rows.name),
        "events": Read(events.name, window.first, max(window.last, 0), gaps="pass", at_least=0),
    }
    if not feature_set.own_events:
        reads["events_of_the_day"] = Read(events.name, gaps="wait", at_least=0)

    def compute(batch: Batch) -> Iterator[tuple[str, Produced | Exception]]:
        try:
            refuse_unsteady(feature_set, rows, events)
        except UnsteadyFeature as error:
            yield from ((key, error) for key in batch.keys)
            return
        for keys in _chunks(feature_set, batch):
            whole = batch.memory.limit_bytes is None or batch.memory.fits(
                needed_bytes(feature_set, batch, keys)
            )
            days = _in_memory if whole else compute_in_buckets
            yield from or_each_alone(partial(days, feature_set, batch), keys)

    return Asset(
        name=feature_set.name,
        grain=Grain.DAY,
        reads=reads,
        compute=compute,
        code=(compute_days, compute_in_buckets),
        parameters={"declaration": feature_set},
        columns=_catalogue(feature_set, rows, events),
        lineage=column_lineage(feature_set),
        **{
            "group": "features",
            "description": feature_set.description,
            "kinds": ("polars", "numpy"),
            **catalogue,
        },
    )


def refuse_unsteady(feature_set: FeatureSet, rows: Asset, events: Asset) -> None:
    """Raise UnsteadyFeature where a row's value may depend on the rows that are computed with it."""
    of_rows, of_events = ({name: c.type for name, c in asset.columns.items()} for asset in (rows, events))
    try:
        compile_online(feature_set, of_rows, None if feature_set.own_events else of_events)
    except UnsteadyFeature:
        raise
    except FeatureError:
        # Without an online form it is for bulk only.
        return


def compute_days(feature_set: FeatureSet, batch: Batch, keys: list[str]) -> dict[str, pl.DataFrame]:
    """The features of several days at once, by day; a day's values do not depend on the others."""
    rows = {key: next(iter(batch.inputs("rows", key).values())) for key in keys}
    events: dict[str, pl.DataFrame] = {}
    for key in keys:
        events.update(batch.inputs("events", key))
    together = pl.concat([events[day] for day in sorted(events)]) if events else batch.empty("events")
    features = offline.compute(feature_set, pl.concat(rows.values()), together)
    days = features.with_columns(pl.col(feature_set.time).dt.date().cast(pl.String).alias("__day"))
    parts = days.partition_by("__day", as_dict=True, include_key=False, maintain_order=True)
    return {key: parts.get((key,), features.clear()) for key in keys}


def _chunks(feature_set: FeatureSet, batch: Batch) -> Iterator[Sequence[str]]:
    """Days that are computed together: in memory, or in buckets for which there is room on the disk."""
    at_once = _CHUNK_DAYS
    if batch.memory.limit_bytes is not None:
        free = disk_usage(_there(batch.memory.spill)).free * _SHARE_OF_DISK
        while at_once > 1 and any(
            spilled_bytes(feature_set, batch, keys) > free for keys in _cut(batch.keys, at_once)
        ):
            at_once //= 2
    return _cut(batch.keys, at_once)


def _cut(keys: Sequence[str], at_once: int) -> Iterator[Sequence[str]]:
    return (keys[start : start + at_once] for start in range(0, len(keys), at_once))


def _there(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    return folder if folder.exists() else _there(folder.parent)


def _in_memory(feature_set: FeatureSet, batch: Batch, keys: Sequence[str]) -> Iterator[tuple[str, Produced]]:
    tables = compute_days(feature_set, batch, list(keys))
    return ((key, Produced(tables[key], metadata=IN_MEMORY)) for key in keys)


def column_lineage(feature_set: FeatureSet) -> ColumnLineage:
    """The columns of rows and events that each column of a feature set reads, as the declaration says.

    An aggregate reads what it sums and tests, and the entity and the time by which it finds its events.
    """
    rows, events = feature_set.rows, feature_set.events
    entity, time = feature_set.entity, feature_set.event_time

    def of_rows(name: str) -> list[tuple[str, str]]:
        return [(rows, column) for column in _read_by(feature_set.derive, name)]

    def of_aggregate(aggregate: Aggregate) -> list[tuple[str, str]]:
        names = [entity, time, *([aggregate.column] if aggregate.column else [])]
        names += [condition.column for condition in aggregate.where]
        return [(events, column) for name in names for column in _read_by(feature_set.event_derive, name)]

    found: dict[str, tuple[tuple[str, str], ...]] = {name: ((rows, name),) for name in feature_set.keep}
    for name, expression in feature_set.columns.items():
        made_of: dict[tuple[str, str], None] = {}
        for root in expression.meta.root_names():
            aggregate = feature_set.aggregates.get(root)
            made_of |= dict.fromkeys(of_aggregate(aggregate) if aggregate else of_rows(root))
        found[name] = tuple(made_of)
    return found


def _read_by(derived: Mapping[str, pl.Expr], name: str) -> list[str]:
    """The columns of a table that one of it, or one derived from it, is read from."""
    return derived[name].meta.root_names() if name in derived else [name]


def _made_from(feature_set: FeatureSet, expression: pl.Expr) -> str:
    """What a feature is computed from, in words."""
    names = dict.fromkeys(expression.meta.root_names())
    aggregates = feature_set.aggregates
    return "from " + "; ".join(_in_words(aggregates[n]) if n in aggregates else n for n in names)


def _in_words(aggregate: Aggregate) -> str:
    words = aggregate.kind.replace("_", " ")
    if aggregate.column is not None:
        words += f" of {aggregate.column}"
    words += f" over {aggregate.days} day{'s' if aggregate.days > 1 else ''}"
    if aggregate.where:
        words += " where " + " and ".join(f"{c.column} {c.operator} {c.value}" for c in aggregate.where)
    if aggregate.delay_days:
        words += f", as of {aggregate.delay_days} days before"
    return words + (", without the row itself" if aggregate.past_only else "")


def _catalogue(feature_set: FeatureSet, rows: Asset, events: Asset) -> dict[str, Column]:
    kept = {name: rows.columns[name] for name in feature_set.keep if name in rows.columns}
    try:
        made = offline.compute(
            feature_set, _no_rows(rows), None if feature_set.own_events else _no_rows(events)
        ).schema
    except PlatformError:
        made = pl.Schema()
    return {
        **kept,
        **{
            name: Column(made.get(name, pl.Float64()), _made_from(feature_set, expression))
            for name, expression in feature_set.columns.items()
            if name not in kept
        },
    }


def _no_rows(asset: Asset) -> pl.DataFrame:
    return pl.DataFrame(schema={name: column.type for name, column in asset.columns.items()})
