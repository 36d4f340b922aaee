"""The features of days that do not fit into memory: those of some entities at a time.

A feature of a row is made of the row and of its entity's events. All rows and events of an entity lie in one bucket, so that
each bucket gives its rows' features exactly; rows are put into the order of time again, day by day.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from my_platform.features import offline
from my_platform.features.declaration import FeatureSet
from my_platform.incremental.buckets import Buckets, buckets_for
from my_platform.incremental.declare import Batch, Produced
from my_platform.incremental.memory import width
from my_platform.incremental.parts import sorted_parts, write_part

IN_MEMORY = {"computed": "in memory"}
# Bytes of an integer of the timeline and of the aggregates.
_NUMBER = 8
_ORDER, _ENTITY, _DAY = "__order", "__entity", "__day"


def needed_bytes(feature_set: FeatureSet, batch: Batch, keys: Sequence[str]) -> int:
    """What computing the features of some days at once takes, as it was measured, by numbers of rows."""
    rows, events = _rows(batch, keys)
    of_rows, of_events = _widths(feature_set, batch)
    return rows * of_rows + events * of_events


def spilled_bytes(feature_set: FeatureSet, batch: Batch, keys: Sequence[str]) -> int:
    """What computing them in buckets takes on disk, uncompressed."""
    rows, events = _rows(batch, keys)
    of_rows, of_events = (
        sum(map(width, _typed(batch, read, names).values()))
        for read, names in (("rows", row_columns(feature_set)), ("events", event_columns(feature_set)))
    )
    made = (len(feature_set.keep) + len(feature_set.columns) + 2) * _NUMBER
    return rows * (of_rows + made) + events * of_events


def compute_in_buckets(
    feature_set: FeatureSet, batch: Batch, keys: Sequence[str]
) -> Iterator[tuple[str, Produced]]:
    """What ``assets.compute_days`` gives, day by day.

    Raises:
        MemoryLimitError: the rows of one bucket do not fit, however many buckets there are.
    """
    room = batch.memory.room_bytes
    assert room is not None
    needed = needed_bytes(feature_set, batch, keys)
    number = buckets_for(needed, room)
    batch.memory.require(batch.asset, keys[0], needed / number, f"for one of {number} parts of it")
    # What a whole table would be refused for is told before anything is taken apart.
    offline.compute(
        feature_set, batch.empty("rows"), None if feature_set.own_events else batch.empty("events")
    )
    with batch.memory.folder() as folder:
        buckets = _taken_apart(feature_set, batch, keys, folder / "in", number, room)
        outputs: dict[str, list[Path]] = {key: [] for key in keys}
        schema = pl.Schema()
        for bucket in range(number):
            features = _of_bucket(feature_set, batch, keys, buckets, bucket)
            schema = features.drop(_DAY).schema
            parts = features.partition_by(_DAY, as_dict=True, include_key=False, maintain_order=True)
            for (day,), part in parts.items():
                if day in outputs:
                    (folder / day).mkdir(exist_ok=True)
                    outputs[day].append(write_part(part, folder / day / f"{bucket}.arrow"))
        shutil.rmtree(folder / "in")
        about = {"computed": f"in {number} parts by {feature_set.entity}, {len(keys)} days together"}
        for key in keys:
            files = outputs[key]
            if not files:
                yield key, Produced(schema.to_frame().drop(_ORDER, _ENTITY), metadata=about)
                continue
            order = (feature_set.time, _ORDER, _ENTITY)
            made = sorted_parts(files, order, (_ORDER, _ENTITY), room, folder / key)
            yield key, Produced.of(made, metadata=about)
            shutil.rmtree(folder / key)


def row_columns(feature_set: FeatureSet) -> list[str]:
    """The columns of the rows that features are made of."""
    made = [name for expression in feature_set.columns.values() for name in expression.meta.root_names()]
    names = [feature_set.entity, feature_set.time, feature_set.order, *feature_set.keep, *made]
    return _roots([name for name in names if name not in feature_set.aggregates], feature_set.derive)


def event_columns(feature_set: FeatureSet) -> list[str]:
    """The columns of the events that features are made of."""
    names = [feature_set.entity, feature_set.event_time, feature_set.event_order]
    for aggregate in feature_set.aggregates.values():
        names += [aggregate.column] if aggregate.column else []
        names += [condition.column for condition in aggregate.where]
    return _roots(names, feature_set.event_derive)


def _roots(names: Sequence[str], derived: Mapping[str, pl.Expr]) -> list[str]:
    roots = [derived[name].meta.root_names() if name in derived else [name] for name in names]
    every = [name for expression in derived.values() for name in expression.meta.root_names()]
    return list(dict.fromkeys([*(name for found in roots for name in found), *every]))


def _taken_apart(
    feature_set: FeatureSet, batch: Batch, keys: Sequence[str], folder: Path, number: int, room: int
) -> Buckets:
    folder.mkdir()
    buckets = Buckets(folder, number, room // 8)
    entity, names = feature_set.entity, event_columns(feature_set)
    if feature_set.own_events:
        names = list(dict.fromkeys([*row_columns(feature_set), *names]))
    else:
        for day, file in _files(batch, "rows", keys).items():
            buckets.add("rows", day, Path(file), entity, row_columns(feature_set))
    for day, file in _files(batch, "events", keys).items():
        buckets.add("events", day, Path(file), entity, names)
    rows, events = _rows(batch, keys)
    of_rows, of_events = _widths(feature_set, batch)
    table = "events" if feature_set.own_events else "rows"
    total = events if feature_set.own_events else rows
    largest = max(
        buckets.rows.get((table, bucket), 0) / max(total, 1) * rows * of_rows
        + buckets.rows.get(("events", bucket), 0) * of_events
        for bucket in range(number)
    )
    batch.memory.require(
        batch.asset,
        keys[0],
        largest,
        f"as some {entity} has so many of its rows that {number} parts of it do not come out even",
    )
    return buckets


def _of_bucket(
    feature_set: FeatureSet, batch: Batch, keys: Sequence[str], buckets: Buckets, bucket: int
) -> pl.DataFrame:
    """The features of a bucket's rows, with what puts them in order among those of the others, and their day."""
    ordered = replace(
        feature_set,
        columns={
            **feature_set.columns,
            _ORDER: pl.col(feature_set.order),
            _ENTITY: pl.col(feature_set.entity),
        },
    )
    days = sorted(_files(batch, "events", keys))
    events = buckets.read("events", bucket, days) if days else batch.empty("events")
    own = [day for key in keys for day in batch.versions("rows", key)]
    rows = buckets.read("events" if feature_set.own_events else "rows", bucket, own)
    features = offline.compute(ordered, rows, events)
    return features.with_columns(pl.col(feature_set.time).dt.date().cast(pl.String).alias(_DAY))


def _files(batch: Batch, read: str, keys: Sequence[str]) -> dict[str, str]:
    return {day: file for key in keys for day, file in batch.files(read, key).items()}


def _rows(batch: Batch, keys: Sequence[str]) -> tuple[int, int]:
    """Numbers of rows, and of events in all windows together."""
    counts = (
        {day: n for key in keys for day, n in batch.row_counts(read, key).items()}
        for read in ("rows", "events")
    )
    rows, events = (sum(found.values()) for found in counts)
    return rows, events


def _widths(feature_set: FeatureSet, batch: Batch) -> tuple[int, int]:
    """What a row and an event take while they are computed with: columns, keys and their sorted copies, and results."""
    aggregates = feature_set.aggregates.values()
    edges = {days for a in aggregates for days in (a.delay_days, a.delay_days + a.days)}
    selections = {(a.where, a.column) for a in aggregates}
    of_rows = sum(map(width, _typed(batch, "rows", row_columns(feature_set)).values()))
    of_events = sum(map(width, _typed(batch, "events", event_columns(feature_set)).values()))
    made = len(feature_set.aggregates) + 3 * (len(feature_set.columns) + len(feature_set.keep) + 2)
    return (
        3 * of_rows + _NUMBER * (8 + len(edges) + made),
        3 * of_events + _NUMBER * (8 + 2 * len(selections)),
    )


def _typed(batch: Batch, read: str, names: Sequence[str]) -> dict[str, pl.DataType]:
    types = batch.types(read)
    return {name: types.get(name, pl.Int64()) for name in names}
