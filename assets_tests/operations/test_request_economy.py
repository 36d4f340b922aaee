"""What a refresh asks of a bucket, counted by the server: little when nothing is owed, one write for a partition."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assets_tests.operations import shop
from assets_tests.storage.s3_servers import asked
from my_platform.incremental.declare import DECIDED, Asset, Grain, ordinal, same, table
from my_platform.incremental.planner import Action, Past, plan_asset
from my_platform.operations import session
from my_platform.operations.home import open_workspace, prepare_home
from my_platform.operations.platform import Project, Workspace
from my_platform.operations.refresh import look_ahead, refresh
from my_platform.quality.tables import raw_table, validated_table
from my_platform.storage.decisions import Decision
from my_platform.storage.lake import partition_key
from my_platform.storage.trace_index import LandedFile, Trace

BUCKET_URL = "s3://home/team"
MOST_IDLE_REQUESTS = 100
MOST_REQUESTS_OF_A_TICK = 20


def put_days(bucket: Any, first: int, last: int, **more: Any) -> None:
    for number in range(first, last):
        day = shop.FIRST + timedelta(days=number)
        bucket.put_object(Bucket="home", Key=f"team/landing/orders/{day}.csv", Body=shop.file_of(day, **more))


def settled(workspace: Workspace) -> None:
    """Have landed files taken as those of an earlier hour: one that is seconds old is hashed at each look."""
    index = workspace.landing.index
    index.replace_landed(
        [LandedFile(**{**vars(f), "hashed_at_ns": f.mtime_ns + 10**12}) for f in index.landed().values()], ()
    )


def test_a_partition_costs_one_write_and_listings_do_not_grow_with_partitions(
    tmp_path: Path, bucket: Any
) -> None:
    listings = {}
    for days in (10, 45):
        home = tmp_path / str(days)
        url = f"{BUCKET_URL}-{days}"
        for number in range(days):
            day = shop.FIRST + timedelta(days=number)
            key = f"team-{days}/landing/orders/{day}.csv"
            bucket.put_object(Bucket="home", Key=key, Body=shop.file_of(day))
        with session.opened(shop.settings(home, bucket_url=url)) as opened:
            with asked() as server:
                report = opened.refresh().as_json()
            computed = sum(map(len, report["computed"].values()))
            assert server.by_method["PUT"] == computed
            assert set(server.puts.values()) == {1}
            listings[days] = server.by_method["LIST"]
            # It is told as the server saw it.
            told = report["bucket"]
            assert told["requests"] == server.total
            assert (told["put"], told["list"], told["head"], told["get"]) == tuple(
                server.by_method[name] for name in ("PUT", "LIST", "HEAD", "GET")
            )
            settled(opened.workspace)
            with asked() as server:
                idle = opened.refresh().as_json()
            assert idle["runs"] == 0
            assert server.by_method.keys() <= {"LIST", "HEAD"}
            assert server.total == idle["bucket"]["requests"] <= 8
    assert listings[10] == listings[45]


def test_a_materialization_tells_what_its_partition_asked_for(tmp_path: Path, bucket: Any) -> None:
    import dagster as dg

    put_days(bucket, 0, 3)
    with session.opened(shop.settings(tmp_path / "home", bucket_url=BUCKET_URL)) as opened:
        opened.refresh()
        records = opened.instance.fetch_materializations(dg.AssetKey(["raw", "orders"]), limit=3).records
    for record in records:
        found = record.asset_materialization
        assert found is not None
        assert found.metadata["bucket_requests"].value == 2
        day = date.fromisoformat(str(found.partition))
        assert found.metadata["bucket_bytes_read"].value == len(shop.file_of(day))


def test_a_home_on_disk_tells_of_no_bucket(tmp_path: Path) -> None:
    shop.land_days(tmp_path / "home", 1)
    with session.opened(shop.settings(tmp_path / "home")) as opened:
        assert "bucket" not in opened.refresh().as_json()


def test_a_decision_made_while_a_run_is_at_work_is_seen_without_listing(tmp_path: Path, bucket: Any) -> None:
    put_days(bucket, 0, 2)
    settings = shop.settings(tmp_path / "home", bucket_url=BUCKET_URL)
    with session.opened(settings) as one, session.opened(settings) as other:
        one.refresh()
        (about,) = one.workspace.project.decided
        source = f"{DECIDED}{about}"
        with asked() as server:
            before = one.workspace.said_now(source)
        assert server.by_method == {"HEAD": 1}
        decision = Decision("undo", "a test", "test", "2026-01-08T00:00:00+00:00", undoes=("nothing",))
        other.workspace.decisions.add(about, ordinal(str(shop.FIRST)), Grain.DAY, decision)
        with asked() as server:
            assert one.workspace.said_now(source) == before
        assert server.by_method["LIST"] == 1


class Known:
    """The heads of a home as a table in memory."""

    def __init__(self, heads: Mapping[str, Mapping[str, str]]) -> None:
        self.heads = heads

    def read(self, assets: Sequence[str]) -> dict[str, dict[str, str]]:
        return {name: dict(self.heads[name]) for name in assets}

    def made_by(self, asset: str, partition: str) -> str | None:
        return None

    def history(self, asset: str, partition: str) -> list[tuple[int, str]]:
        return []


def chain(length: int) -> list[Asset]:
    """Raw and validated orders, and daily tables that each read the one before."""
    raw = raw_table("raw/orders", shop.ORDERS, source="orders")
    found = [raw, validated_table("validated/orders", raw, shop.ORDERS)]
    while len(found) < length:

        @table(f"daily_{len(found)}", reads={"before": same(found[-1].name)})
        def daily(before: pl.LazyFrame) -> pl.LazyFrame:
            return before

        found.append(daily)
    return found


def bring_up(workspace: Workspace) -> Known:
    """Write down, for each asset and day, the trace that computing it would leave; the heads."""
    heads: dict[str, dict[str, str]] = {}
    workspace.look()
    states = workspace.source_states()
    for node in workspace.project.order:
        state, entries = plan_asset(node, states, Past({}, {}, frozenset()), *workspace.domain(node))
        traces = []
        for entry in entries:
            version = hashlib.sha256(f"{node.name} {entry.key}".encode()).digest()[:16]
            partition = partition_key(node.grain, entry.key)
            state.set(entry.key, version)
            traces.append(Trace(node.name, partition, entry.fingerprint, version.hex(), node.code, 1, 1, 0.0))
        workspace.lake.index.add(traces)
        heads[node.name] = {trace.partition: trace.data_version for trace in traces}
        states[node.name] = state
    return Known(heads)


@pytest.mark.parametrize("days", [1_500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_an_idle_refresh_asks_little_of_however_many_partitions(
    tmp_path: Path, bucket: Any, days: int
) -> None:
    from moto.s3.models import s3_backends

    settings = shop.settings(tmp_path / "home", bucket_url=BUCKET_URL)
    prepare_home(settings)
    (store,) = [each["aws"] for each in s3_backends.values() if "home" in each["aws"].buckets]
    body = shop.file_of(shop.FIRST)
    for number in range(days):
        day = shop.FIRST + timedelta(days=number)
        store.put_object("home", f"team/landing/orders/{day}.csv", body)
    workspace = open_workspace(settings, Project.of(chain(8)))
    digest = hashlib.sha256(body).digest()[:16].hex()
    workspace.landing.index.replace_landed(
        [
            LandedFile(f.path, f.size, f.mtime_ns, f.mark, digest, f.mtime_ns + 10**12)
            for f in workspace.landing.place.list("orders")
        ],
        (),
    )
    heads = bring_up(workspace)
    assert {len(found) for found in heads.heads.values()} == {days}

    with asked() as server:
        report = refresh(workspace, heads, lambda _: pytest.fail("a run was launched"))  # type: ignore[arg-type]

    assert report.as_json()["computed"] == {}
    assert report.requests is not None
    assert report.requests.total == server.total
    assert server.by_method["LIST"] <= days // 1_000 + 3
    assert server.total <= MOST_IDLE_REQUESTS
    for number in range(days, days + 3):
        store.put_object("home", f"team/landing/orders/{shop.FIRST + timedelta(days=number)}.csv", body)

    with asked() as server:
        planned = look_ahead(workspace, heads)

    # What the sensor does at a tick: it lists, and reads what is new.
    assert (
        sum(entry.asset == "raw/orders" and entry.action is Action.COMPUTE for entry in planned.entries) == 3
    )
    assert server.by_method["GET"] == 3
    assert server.total <= MOST_REQUESTS_OF_A_TICK
