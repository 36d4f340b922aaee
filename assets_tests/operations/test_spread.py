"""A plan that is handed out to several workers: everything once, and nothing before what it reads."""

import random
from collections.abc import Iterator
from dataclasses import replace

import dagster as dg
import pytest

from assets_tests.homes import folder_in_memory
from assets_tests.operations import pooled_shop, shop
from assets_tests.operations.dagster_shop import land, opened_shop
from my_platform.incremental.planner import Entry, window_keys
from my_platform.operations.chunks import CHUNK_S, in_turn
from my_platform.operations.platform import Project
from my_platform.operations.refresh import Planned, look_ahead
from my_platform.operations.sensors import SENSOR
from my_platform.operations.session import opened
from my_platform.operations.spread import Chunk, Spread, chunk_seconds

Plan = tuple[Project, Planned, list[Entry]]


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    """All that is owed of a home where nothing is computed."""
    with folder_in_memory() as folder:
        land(folder / "home")
        with opened_shop(folder / "home") as found:
            workspace = found.session.workspace
            planned = look_ahead(workspace, found.session.heads)
            yield workspace.project, planned, in_turn(workspace.project, planned)


def spread(plan: Plan, **limits: int) -> Spread:
    return Spread(plan[0], plan[1], plan[2], limits)


def read_by(plan: Plan, chunk: Chunk) -> set[tuple[str, int]]:
    project, planned, _ = plan
    return {
        (read.asset, key)
        for entry in chunk.entries
        for read in project.assets[entry.asset].reads.values()
        for key in window_keys(read, planned.states[read.asset], entry.key)
    }


@pytest.mark.parametrize("seed", range(20))
def test_everything_is_handed_out_once_and_nothing_before_what_it_reads(plan: Plan, seed: int) -> None:
    chance, found = random.Random(seed), spread(plan)
    running: list[Chunk] = []
    done: list[tuple[str, int]] = []
    whole = {(entry.asset, entry.key) for entry in plan[2]}
    while True:
        chunk = found.take(0, lambda entry: 1.0, chance.randint(1, 9), CHUNK_S)
        if chunk is not None:
            assert read_by(plan, chunk) & whole <= {*done, *chunk.places}
            running.append(chunk)
        if running and (chunk is None or len(running) == 3 or chance.random() < 0.3):
            ended = running.pop(chance.randrange(len(running)))
            if chance.random() < 0.2:
                found.back(ended)
            else:
                found.done(ended)
                done += ended.places
        elif chunk is None:
            break
    assert found.lanes == []
    assert sorted(done) == sorted(whole)


def test_two_workers_have_work_from_the_beginning(plan: Plan) -> None:
    found = spread(plan)
    first = found.take(0, lambda entry: 1.0, 10, CHUNK_S)
    second = found.take(0, lambda entry: 1.0, 10, CHUNK_S)
    assert first is not None
    assert second is not None
    assert (len(first.entries), len(second.entries)) == (10, 10)
    assert not set(first.places) & set(second.places)


def test_a_chunk_whose_worker_was_lost_is_handed_out_again_before_all_else(plan: Plan) -> None:
    found = spread(plan)
    lost = found.take(0, lambda entry: 1.0, 10, CHUNK_S)
    assert lost is not None
    beside = found.take(0, lambda entry: 1.0, 10, CHUNK_S)
    assert beside is not None
    found.back(lost)
    again = found.take(0, lambda entry: 1.0, 10, CHUNK_S)
    assert again == lost


def test_a_pool_admits_as_many_chunks_as_its_limit_and_devices_have_workers_of_their_own() -> None:
    with folder_in_memory() as folder:
        shop.land_days(folder / "home", 30)
        domains = ("assets_tests.operations.pooled_shop",)
        with opened(shop.settings(folder / "home", domains=domains)) as session:
            session.refresh(select="raw/orders,validated/orders,shop_week,report")
            project = session.workspace.project
            planned = look_ahead(session.workspace, session.heads)
            plan = project, planned, in_turn(project, planned)
            weeks = sum(entry.asset == "printed" for entry in plan[2])
            assert weeks == 4

            def begun(found: Spread, gpus: int = 0) -> list[str]:
                chunks: list[Chunk] = []
                while chunk := found.take(gpus, lambda entry: 1.0, 1, CHUNK_S):
                    chunks.append(chunk)
                return [chunk.lane.pool for chunk in chunks]

            assert begun(spread(plan)) == [pooled_shop.POOL]
            assert begun(spread(plan, **{pooled_shop.POOL: 3})) == [pooled_shop.POOL] * 3

            printed = replace(project.assets["printed"], gpus=1)
            on_device = replace(project, assets={**project.assets, "printed": printed})
            plan = on_device, planned, plan[2]
            assert begun(spread(plan)) == []
            assert begun(spread(plan), gpus=2) == []
            assert begun(spread(plan), gpus=1) == [pooled_shop.POOL]


@pytest.mark.parametrize(
    ("left_s", "workers", "expected_s"),
    [(0.0, 2, 5.0), (60.0, 2, 10.0), (1e6, 2, CHUNK_S), (1e6, 1000, CHUNK_S)],
)
def test_each_worker_gets_several_chunks_of_no_more_than_a_minute(
    left_s: float, workers: int, expected_s: float
) -> None:
    assert chunk_seconds(left_s, workers) == expected_s


def test_the_sensor_asks_for_the_devices_that_a_run_needs() -> None:
    with folder_in_memory() as folder:
        shop.land_days(folder / "home", 14)
        domains = ("assets_tests.scale.gpu_shop",)
        with opened(shop.settings(folder / "home", domains=domains)) as session:
            repository = session.definitions.get_repository_def()
            asked: dict[str, str | None] = {}
            for _ in range(2):
                with dg.build_sensor_context(session.instance, repository_def=repository) as context:
                    tick = repository.get_sensor_def(SENSOR).evaluate_tick(context)
                for request in tick.run_requests or ():
                    names = {key.to_user_string() for key in request.asset_selection or ()}
                    asked |= dict.fromkeys(names, request.tags.get("dagster-ray/config"))
                session.refresh(select="raw/orders,validated/orders,shop_week,report")
    assert asked.pop("fitted") == '{"num_gpus": 1}'
    assert "raw/orders" in asked
    assert set(asked.values()) == {None}
