"""The planner and Dagster's own stale status on the same graph: eight daily assets with windows up to a year.

Larger homes have copies of that graph, each over the same landed days.
"""

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from typing import Any

import dagster as dg
import xxhash

from benchmarks._report import median_s
from benchmarks._stale_status import as_of
from my_platform.incremental.declare import EPOCH, Asset, Grain, Read, day_key, last
from my_platform.incremental.planner import Entry, Node, Past, State, in_order, plan, plan_asset
from my_platform.operations.heads import CODE_VERSION_TAG, DATA_VERSION_TAG, DagsterHeads, asset_key
from my_platform.operations.home import open_instance, prepare_home
from my_platform.settings import Settings
from my_platform.storage.lake import Lake
from my_platform.storage.objects import FolderStore
from my_platform.storage.trace_index import Trace, TraceIndex

FIRST = date(1990, 1, 1)
CODE = "c0de"
LANDED = "landing:a"
INDEX = "lake/index.sqlite"
READS: Mapping[str, tuple[Read, ...]] = {
    "a": (Read(LANDED),),
    "b": (Read("a"),),
    "c": (last("b", 30, at_least=1),),
    "d": (last("b", 365, at_least=1),),
    "e": (Read("c"), Read("d")),
    "f": (last("e", 7, at_least=1),),
    "g": (last("f", 30, at_least=1),),
    "h": (Read("g"), last("a", 365)),
}


def plan_many(days: int, repeats: int) -> dict[str, Any]:
    """Seconds to plan everything fresh, idle, and after one changed day; nothing but the planner."""
    order, source, pasts = _computed(days)
    first = FIRST.toordinal() - EPOCH
    domain = (first, first + days - 1)

    def run(known: Mapping[str, Past]) -> list[Entry]:
        return plan(order, {LANDED: source}, lambda name: known.get(name, Past()), lambda _: domain)

    found = {
        "all owed": median_s(lambda: run({}), repeats),
        "nothing owed": median_s(lambda: run(pasts), repeats),
    }
    assert run(pasts) == []
    source.set(first + days // 2, bytes(range(16)))
    entries = run(pasts)
    found["one landed day changed"] = median_s(lambda: run(pasts), repeats)
    return {"seconds": found, "partitions": days * len(order), "entries": len(entries)}


def from_dagster(folder: str, days: int, sample: int, repeats: int) -> dict[str, Any]:
    """Seconds to read all heads and traces, and to ask Dagster's stale status for a sample of days.

    One event of each asset is reported to a real instance; the others are copies of its row, for another
    partition and data version.
    """
    home = Path(folder)
    settings = Settings(home=home)
    prepare_home(settings)
    order, _source, pasts = _computed(days)
    definitions = _definitions(days)
    with open_instance(settings) as instance:
        for node in order:
            _fill_events(instance, settings.dagster_home, node, pasts[node.name].heads)
        lake = Lake(
            FolderStore(home / "lake"),
            FolderStore(home / "quarantine"),
            TraceIndex(home / "lake" / "i.sqlite"),
        )
        for node in order:
            _fill_traces(lake.index, node.name, pasts[node.name])
        assets = {name: _asset(name) for name in READS}
        heads = DagsterHeads(instance, assets, dict.fromkeys(READS, CODE), home / "lock")
        names = [node.name for node in order]
        read = heads.read(names)
        assert all(len(read[name]) == days for name in names)
        seconds = {
            "heads": median_s(lambda: heads.read(names), repeats),
            "traces": median_s(
                lambda: [lake.past(name, Grain.DAY, CODE, read[name]) for name in names], repeats
            ),
        }
        resolver = as_of(definitions, instance, _end(days))
        start = FIRST + timedelta(days=days // 2)
        statuses: dict[str, int] = {}
        started = time.perf_counter()
        for number in range(sample):
            for name in names:
                status = resolver.get_status(asset_key(name), (start + timedelta(days=number)).isoformat())
                statuses[status.value] = statuses.get(status.value, 0) + 1
        seconds["stale status of the sample"] = time.perf_counter() - started
    return {"seconds": seconds, "asked": sample * len(names), "statuses": statuses}


def simulate_home(folder: str, days: int, copies: int) -> None:
    """Make a home in which everything is computed, of rows alone: events in the log of its instance, traces in its index.

    One event of each asset is reported, the others are copies of it for other partitions and data versions.
    """
    settings = Settings(home=Path(folder))
    prepare_home(settings)
    order, _source, pasts = _computed(days, copies)
    index = TraceIndex(settings.home / INDEX)
    with open_instance(settings) as instance:
        for node in order:
            _fill_events(instance, settings.dagster_home, node, pasts[node.name].heads)
            _fill_traces(index, node.name, pasts[node.name])


def know_what_is_owed(folder: str, days: int, copies: int, repeats: int) -> dict[str, Any]:
    """Seconds to read what a simulated home says and to plan it, idle and after one changed day; bytes of its files.

    Report is the time of one more event in a log of that size, a median over twenty.
    """
    settings = Settings(home=Path(folder))
    index = TraceIndex(settings.home / INDEX)
    store = FolderStore(settings.home / "lake")
    lake, order, source = Lake(store, store, index), _nodes(copies), _landed(days)
    first = FIRST.toordinal() - EPOCH
    names = [node.name for node in order]
    assets = {name: _asset(name) for name in names}
    seconds: dict[str, float] = {}
    with open_instance(settings) as instance:
        heads = DagsterHeads(instance, assets, dict.fromkeys(names, CODE), settings.home / "lock")
        seconds["heads"] = median_s(lambda: heads.read(names), repeats)
        read = heads.read(names)
        seconds["traces"] = median_s(lambda: _pasts(lake, read), repeats)
        pasts = _pasts(lake, read)

        def planned() -> list[Entry]:
            return plan(order, {LANDED: source}, pasts.__getitem__, lambda _: (first, first + days - 1))

        seconds["nothing owed"] = median_s(planned, repeats)
        assert planned() == []
        source.set(first + days // 2, bytes(range(16)))
        seconds["one landed day changed"] = median_s(planned, repeats)
        entries = len(planned())
        events = (
            dg.AssetMaterialization(
                asset_key("a"), partition=day_key(first + number), tags={DATA_VERSION_TAG: CODE}
            )
            for number in range(20)
        )
        seconds["report"] = median_s(lambda: instance.report_runless_asset_event(next(events)), 20)
    return {
        "seconds": seconds,
        "partitions": days * len(order),
        "entries": entries,
        "log_bytes": _events_file(settings.dagster_home).stat().st_size,
        "index_bytes": (settings.home / INDEX).stat().st_size,
    }


def _pasts(lake: Lake, heads: Mapping[str, Mapping[str, str]]) -> dict[str, Past]:
    return {name: lake.past(name, Grain.DAY, CODE, found) for name, found in heads.items()}


def _computed(days: int, copies: int = 1) -> tuple[list[Node], State, dict[str, Past]]:
    """The nodes, the landed days, and what is known once everything was computed."""
    order, source = _nodes(copies), _landed(days)
    first = FIRST.toordinal() - EPOCH
    states, pasts = {LANDED: source}, {}
    for node in order:
        _, entries = plan_asset(node, states, Past(), first, first + days - 1)
        heads = {entry.key: _version(node.name, entry.key) for entry in entries}
        traces = {bytes.fromhex(entry.fingerprint): heads[entry.key] for entry in entries}
        states[node.name] = State.of(Grain.DAY, heads)
        pasts[node.name] = Past(heads, traces, frozenset(heads))
    return order, source, pasts


def _nodes(copies: int) -> list[Node]:
    """The nodes of the graph and of its copies, each after what it reads."""
    return in_order(
        {
            f"{name}{copy}": Node(f"{name}{copy}", Grain.DAY, tuple(_renamed(reads, copy)), CODE)
            for copy in ["", *(f"_{number}" for number in range(1, copies))]
            for name, reads in READS.items()
        }
    )


def _landed(days: int) -> State:
    first = FIRST.toordinal() - EPOCH
    return State.of(Grain.DAY, {first + i: _version("landed", i) for i in range(days)})


def _renamed(reads: Sequence[Read], copy: str) -> Iterator[tuple[str, Read]]:
    for number, read in enumerate(reads):
        yield f"r{number}", read if read.asset == LANDED else replace(read, asset=f"{read.asset}{copy}")


def _version(name: str, number: int) -> bytes:
    return xxhash.xxh3_128_digest(f"{name} {number}".encode())


def _asset(name: str) -> Asset:
    reads = READS[name.partition("_")[0]]
    return Asset(name, Grain.DAY, {f"r{i}": r for i, r in enumerate(reads)}, compute=iter, code=())


def _end(days: int) -> datetime:
    return datetime.combine(FIRST + timedelta(days=days + 1), clock(), UTC)


def _definitions(days: int) -> dg.Definitions:
    partitions = dg.DailyPartitionsDefinition(
        FIRST.isoformat(), end_date=(FIRST + timedelta(days=days)).isoformat()
    )
    return dg.Definitions(assets=[_dagster_asset(name, partitions) for name in READS])


def _dagster_asset(name: str, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    deps = [
        dg.AssetDep(
            read.asset,
            partition_mapping=dg.TimeWindowPartitionMapping(
                start_offset=read.first, end_offset=read.last, allow_nonexistent_upstream_partitions=True
            ),
        )
        for read in READS[name]
        if read.asset != LANDED
    ]

    @dg.asset(name=name, deps=deps, partitions_def=partitions, code_version=CODE)
    def never_run() -> None:
        """What was computed is written into the event log."""

    return never_run


def _fill_events(
    instance: dg.DagsterInstance, dagster_home: Path, node: Node, heads: Mapping[int, bytes]
) -> None:
    keys = sorted(heads)
    tags = {
        DATA_VERSION_TAG: heads[keys[0]].hex(),
        CODE_VERSION_TAG: CODE,
        "dagster/data_version_is_user_provided": "true",
    }
    for _, read in node.reads:
        if read.asset != LANDED:
            tags[f"dagster/input_data_version/{read.asset}"] = hashlib.sha256(b"").hexdigest()[:32]
            tags[f"dagster/input_event_pointer/{read.asset}"] = "1"
    first, first_version = day_key(keys[0]), heads[keys[0]].hex()
    instance.report_runless_asset_event(
        dg.AssetMaterialization(asset_key(node.name), partition=first, tags=tags)
    )
    with sqlite3.connect(_events_file(dagster_home)) as index:
        name = json.dumps([node.name])
        (number,) = index.execute("select max(id) from event_logs").fetchone()
        columns = "run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition"
        row = index.execute(f"select {columns} from event_logs where id=?", (number,)).fetchone()
        tag_rows = index.execute(
            "select key, value, event_timestamp from asset_event_tags where event_id=?", (number,)
        ).fetchall()
        copies, copied_tags = [], []
        for offset, key in enumerate(keys[1:], 1):
            day, version = day_key(key), heads[key].hex()
            event = row[1].replace(first_version, version).replace(f'"{first}"', f'"{day}"')
            copies.append((number + offset, row[0], event, *row[2:6], day))
            copied_tags += [
                (number + offset, name, tag, version if value == first_version else value, time)
                for tag, value, time in tag_rows
            ]
        index.executemany(f"insert into event_logs (id, {columns}) values (?,?,?,?,?,?,?,?)", copies)
        index.executemany(
            "insert into asset_event_tags (event_id, asset_key, key, value, event_timestamp) values (?,?,?,?,?)",
            copied_tags,
        )


def _events_file(dagster_home: Path) -> Path:
    """Where Dagster's SQLite storage keeps the events of assets."""
    return dagster_home / "history" / "runs" / "index.db"


def _fill_traces(index: TraceIndex, name: str, past: Past) -> None:
    days = {version: day_key(key) for key, version in past.heads.items()}
    index.add(
        Trace(name, days[version], fingerprint.hex(), version.hex(), CODE, 1, 1, 0.0)
        for fingerprint, version in past.traces.items()
    )


os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
