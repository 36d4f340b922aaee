"""Dagster as usual: whatever a person selects and presses, each partition ends with its own data version."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets_tests.homes import Versions, folder_in_memory
from assets_tests.operations.dagster_shop import (
    DAILY,
    DAYS,
    ONCE,
    Shop,
    correct,
    day,
    land,
    opened_shop,
    requested,
    settings,
)
from my_platform.definitions import build_definitions

LAST = day(DAYS - 1)
VERSION = "dagster/data_version"


@pytest.fixture(scope="module")
def truth() -> Iterator[Versions]:
    """What a refresh of the landed days gives."""
    with folder_in_memory() as folder:
        land(folder / "home")
        with opened_shop(folder / "home") as shop:
            shop.session.refresh()
            yield shop.session.versions()


@pytest.fixture
def shop() -> Iterator[Shop]:
    """A home where everything has landed and nothing is computed."""
    with folder_in_memory() as folder:
        land(folder / "home")
        with opened_shop(folder / "home") as opened:
            yield opened


def problems(result: dg.ExecuteInProcessResult) -> str:
    return next(
        e.step_failure_data.user_failure_data.description for e in result.all_events if e.is_step_failure
    )


class TestOneRun:
    def test_one_partition_of_one_asset(self, shop: Shop, truth: Versions) -> None:
        assert shop.run(["raw/orders"], day(3)).success

        (event,) = shop.events("raw/orders")
        assert event.partition == day(3)
        assert event.tags is not None
        assert event.tags[VERSION] == truth["raw/orders"][day(3)]
        assert event.metadata["reused"].value is False
        assert event.metadata["cause"].value == "first computed"
        assert event.metadata["dagster/row_count"].value == 4

    def test_a_fresh_partition_answers_that_it_was_reused(self, shop: Shop, truth: Versions) -> None:
        for _ in range(2):
            assert shop.run(["raw/orders"], day(3)).success

        newest, first = shop.events("raw/orders")
        assert (first.tags or {})[VERSION] == (newest.tags or {})[VERSION] == truth["raw/orders"][day(3)]
        assert newest.metadata["reused"].value is True
        assert newest.metadata["dagster/row_count"].value == 4
        assert newest.metadata["inputs"].value == first.metadata["inputs"].value
        assert len(shop.traces()) == 1

    def test_one_partition_of_an_asset_and_what_is_made_of_it(self, shop: Shop, truth: Versions) -> None:
        assert shop.run([*ONCE, *DAILY], day(0)).success

        assert shop.session.versions() == {
            **{name: truth[name] for name in ONCE},
            **{name: {day(0): truth[name][day(0)]} for name in DAILY},
            "report": {},
            "score": {},
        }

    def test_a_range_of_one_asset(self, shop: Shop, truth: Versions) -> None:
        assert shop.run(["raw/orders"], span=(day(2), day(9))).success

        wanted = {day(n): truth["raw/orders"][day(n)] for n in range(2, 10)}
        assert {e.partition: (e.tags or {})[VERSION] for e in shop.events("raw/orders")} == wanted
        assert len(set(wanted.values())) == len(wanted)

    def test_a_range_of_several_assets_with_and_without_partitions(self, shop: Shop, truth: Versions) -> None:
        assert shop.run([*ONCE, *DAILY], span=(day(0), LAST)).success

        assert {k: v for k, v in shop.session.versions().items() if k in [*ONCE, *DAILY]} == {
            name: truth[name] for name in [*ONCE, *DAILY]
        }
        assert len(shop.events("shop_size", day(5))) == 1

    def test_weeks(self, shop: Shop, truth: Versions) -> None:
        assert shop.run([*ONCE, *DAILY], span=(day(0), LAST)).success
        assert shop.run(["report"], day(7)).success
        assert shop.run(["report"], span=(day(0), day(14))).success

        assert shop.session.versions()["report"] == truth["report"]
        assert [e.metadata["reused"].value for e in shop.events("report", day(7))] == [True, False]

    def test_a_range_reaches_through_nodes_that_wait_for_each_other(
        self, shop: Shop, truth: Versions
    ) -> None:
        """shop_week feeds score in the same run, though a week lies between them: Dagster runs two steps."""
        shop.session.refresh()
        correct(shop.home, 20)
        assert shop.run(["raw/orders", "validated/orders"], day(20)).success

        assert shop.run(["shop_week", "score"], span=(day(19), day(23))).success

        with folder_in_memory() as folder:
            land(folder / "home")
            correct(folder / "home", 20)
            with opened_shop(folder / "home") as clean:
                clean.session.refresh()
                wanted = clean.session.versions()
        assert shop.session.versions() == wanted
        assert wanted["score"] != truth["score"]

    def test_what_cannot_be_computed_is_named_and_the_rest_is_done(self, shop: Shop, truth: Versions) -> None:
        (shop.home / "landing" / "orders" / f"{day(4)}.csv").unlink()

        result = shop.run(["raw/orders", "validated/orders"], span=(day(3), day(5)))

        assert not result.success
        assert f"raw/orders {day(4)}: waits for landing:orders {day(4)}" in problems(result)
        found = shop.session.versions()
        assert found["validated/orders"] == {day(n): truth["validated/orders"][day(n)] for n in (3, 5)}

    def test_stale_inputs_that_were_not_selected_are_used_and_named(self, shop: Shop) -> None:
        shop.session.refresh()
        before = shop.session.versions()
        correct(shop.home, 20)
        assert shop.run(["raw/orders"], day(20)).success

        assert shop.run(["shop_week", "shop_size"], day(22)).success

        named = shop.events("shop_week", day(22))[0].metadata
        assert named["stale_inputs"].value == [f"validated/orders {day(20)}"]
        assert "stale_inputs" not in shop.events("shop_size", day(22))[0].metadata
        assert shop.session.versions()["shop_week"] == before["shop_week"]

    def test_the_cause_names_the_input_that_changed_also_when_the_value_did_not(self, shop: Shop) -> None:
        shop.session.refresh()
        correct(shop.home, 20)
        assert shop.run(["raw/orders", "validated/orders", "shop_size"], day(20)).success

        newest, before = shop.events("shop_size", day(20))[:2]
        assert (newest.tags or {})[VERSION] == (before.tags or {})[VERSION]
        assert newest.metadata["cause"].value.startswith(f"validated/orders {day(20)} changed: 1 of 2 inputs")


class TestAllWaysAgree:
    """The same data versions, each partition committed once, and nothing left to do."""

    @pytest.fixture(autouse=True)
    def _settled(self, shop: Shop, truth: Versions) -> Iterator[None]:
        yield
        traces = shop.traces()
        assert shop.session.versions() == truth
        assert len(traces) == sum(len(keys) for keys in truth.values())
        assert shop.session.refresh().runs == 0

    def test_one_partition_after_the_other_for_a_week_and_the_rest_at_once(self, shop: Shop) -> None:
        for name in ONCE:
            assert shop.run([name]).success
        for name in ("raw/orders", "validated/orders", "shop_week"):
            for number in range(7):
                assert shop.run([name], day(number)).success
        assert shop.run(["report"], day(0)).success

        shop.session.refresh()

    def test_one_range_for_each_asset(self, shop: Shop, truth: Versions) -> None:
        for node in shop.session.workspace.project.order:
            keys = sorted(truth[node.name])
            assert shop.run([node.name], span=(keys[0], keys[-1]) if keys[0] else None).success

    def test_ranges_over_several_assets(self, shop: Shop, truth: Versions) -> None:
        assert shop.run([*ONCE, *DAILY], span=(day(0), LAST)).success
        assert shop.run(["report"], span=(day(0), day(14))).success
        assert shop.run(["shop_week", "score"], span=(min(truth["score"]), LAST)).success

    def test_the_jobs(self, shop: Shop) -> None:
        for name in ("unpartitioned_tables", "refresh", "service_levels"):
            assert shop.execute(dg.RunRequest(job_name=name)).success

    def test_the_sensor(self, shop: Shop) -> None:
        while requests := shop.tick().run_requests:
            assert all(shop.execute(request).success for request in requests), map(requested, requests)


class TestOtherInstances:
    def test_a_run_on_another_instance_is_refused_with_the_fix(self, shop: Shop) -> None:
        job = shop.session.definitions.resolve_implicit_global_asset_job_def()
        with dg.DagsterInstance.ephemeral() as throwaway:
            result = job.execute_in_process(
                instance=throwaway,
                asset_selection=[dg.AssetKey(["raw", "orders"])],
                partition_key=day(0),
                raise_on_error=False,
            )
        assert not result.success
        assert f"DAGSTER_HOME={shop.session.settings.dagster_home}" in problems(result)
        assert shop.traces() == []

    def test_a_test_may_say_that_any_instance_will_do(self, shop: Shop) -> None:
        definitions = build_definitions(settings(shop.home), any_instance=True)
        with dg.DagsterInstance.ephemeral() as throwaway:
            assert (
                definitions.resolve_implicit_global_asset_job_def()
                .execute_in_process(
                    instance=throwaway,
                    asset_selection=[dg.AssetKey(["raw", "orders"])],
                    partition_key=day(0),
                )
                .success
            )

    def test_the_sensor_says_why_it_does_nothing_there(self, shop: Shop) -> None:
        repository = shop.session.definitions.get_repository_def()
        with (
            dg.DagsterInstance.ephemeral() as throwaway,
            dg.build_sensor_context(instance=throwaway, repository_def=repository) as context,
        ):
            found = repository.get_sensor_def("keep_up_to_date").evaluate_tick(context)
        assert not found.run_requests
        assert "my-platform ui" in str(found.skip_message)


def test_the_home_may_lie_below_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    land(tmp_path / "link", days=1)
    with opened_shop(tmp_path / "link") as shop:
        assert shop.run(["raw/orders"], day(0)).success
