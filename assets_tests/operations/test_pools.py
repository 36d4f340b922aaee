"""Assets in a Dagster pool, which admits one run at a time to what must not be shared."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from assets_tests.homes import folder_in_memory
from assets_tests.operations import shop
from assets_tests.operations.dagster_shop import Shop
from assets_tests.operations.pooled_shop import POOL
from my_platform.operations.session import opened
from my_platform.settings import Settings

WEEKLY = ["report", "printed", "bound"]
WEEKS = (shop.FIRST.isoformat(), "2026-01-14")


@contextmanager
def shop_of(domain: str) -> Iterator[Shop]:
    with folder_in_memory() as folder:
        shop.land_days(folder / "home", 20)
        settings = Settings(home=Path(folder / "home"), domains=(f"assets_tests.operations.{domain}",))
        with opened(settings) as session:
            yield Shop(session)


@pytest.fixture
def pooled() -> Iterator[Shop]:
    with shop_of("pooled_shop") as found:
        yield found


@pytest.fixture
def pooled_days() -> Iterator[Shop]:
    with shop_of("pooled_days_shop") as found:
        yield found


def test_the_assets_of_a_pool_are_a_node_of_their_own_in_that_pool(pooled: Shop) -> None:
    nodes = [
        node for node in pooled.session.definitions.assets or () if isinstance(node, dg.AssetsDefinition)
    ]
    found = {
        key.to_user_string(): (node.op.name, node.op.pool)
        for node in nodes
        for key in node.keys
        if key.path[-1] in WEEKLY
    }
    assert found == {
        "report": ("weekly", None),
        "printed": ("weekly_printer", POOL),
        "bound": ("weekly_1", None),
    }


def test_one_run_goes_into_the_pool_and_out_of_it_again(pooled: Shop) -> None:
    daily = ["raw/orders", "validated/orders", "shop_week"]
    pooled.session.refresh(select=",".join(daily))
    assert pooled.run(WEEKLY, span=WEEKS).success
    by_run = pooled.session.versions()
    assert {name: list(by_run[name]) for name in WEEKLY} == {name: list(WEEKS) for name in WEEKLY}
    for name in WEEKLY:
        for week in WEEKS:
            event = pooled.events(name, week)[0]
            assert (event.tags or {})["dagster/data_version"] == by_run[name][week]
    assert pooled.session.refresh().as_json()["computed"] == {}


def test_what_waits_does_not_keep_later_steps_from_what_they_need(pooled_days: Shop) -> None:
    landed, missing = days(20), "2026-01-27"
    asked = ["raw/orders", "validated/orders", "shop_week", "ahead", "ticket"]

    done = pooled_days.run(asked, span=(landed[-3], missing))

    versions = pooled_days.session.versions()
    assert list(versions["ticket"]) == landed[-3:]
    assert not done.success
    assert [event.step_key for event in done.get_step_failure_events()] == ["daily_printer"]
    told = str(done.get_step_failure_events()[0].step_failure_data.user_failure_data)
    for day in landed[-3:]:
        assert f"ahead {day}: waits for validated/orders" in told
    assert f"ticket {missing}: waits for" in told


def test_a_step_fails_where_nothing_is_there_of_what_later_ones_read(pooled_days: Shop) -> None:
    done = pooled_days.run(["raw/orders", "validated/orders", "shop_week", "ticket"], partition="2026-01-27")

    assert [event.step_key for event in done.get_step_failure_events()] == ["daily"]
    assert "raw/orders 2026-01-27: waits for" in str(done.get_step_failure_events()[0].step_failure_data)
    assert "ticket" not in pooled_days.session.versions() or not pooled_days.session.versions()["ticket"]


def days(count: int) -> list[str]:
    return [(shop.FIRST + timedelta(days=number)).isoformat() for number in range(count)]
