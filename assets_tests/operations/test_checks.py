"""Checks are told by partition, whatever way a partition becomes current."""

from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace

import dagster as dg
import pytest

from assets_tests.homes import folder_in_memory
from assets_tests.operations import checked_shop, shop
from assets_tests.operations.dagster_shop import Shop, day
from my_platform.operations.session import opened

DAYS = 8
ASSETS = ["raw/orders", "validated/orders", "takings"]


@pytest.fixture
def home() -> Iterator[Shop]:
    with folder_in_memory() as folder:
        shop.land_days(folder / "home", DAYS)
        with opened(checked_shop.settings(folder / "home")) as session:
            yield Shop(session)


def told(home: Shop, check: str, asset: str = "takings") -> dict[str | None, bool]:
    """Whether each partition passed, where the answer is about its latest materialization."""
    infos = home.session.instance.event_log_storage.get_asset_check_partition_info(
        [dg.AssetCheckKey(dg.AssetKey(asset), check)]
    )
    assert all(info.is_current for info in infos)
    return {info.partition_key: info.latest_execution_status.value == "SUCCEEDED" for info in infos}


def latest(home: Shop, check: str, partition: str) -> dg.AssetCheckEvaluation:
    (record,) = home.session.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("takings"), check), limit=1, partition_filter=_only(partition)
    )
    assert record.event is not None
    assert record.event.dagster_event is not None
    found = record.event.dagster_event.event_specific_data
    assert isinstance(found, dg.AssetCheckEvaluation)
    return found


def _only(partition: str) -> object:
    """What Dagster's storage looks at of its own filter, which is not public."""
    return SimpleNamespace(key=partition)


def all_days() -> dict[str, bool]:
    return {day(number): True for number in range(DAYS)}


def quiet_days() -> dict[str, bool]:
    """Takings rise by 16 cents a day from 1000 on."""
    return {day(number): 1000 + 16 * number <= checked_shop.SOME for number in range(DAYS)}


def test_a_refresh_tells_every_check_of_every_partition(home: Shop) -> None:
    home.session.refresh()

    assert told(home, "believable") == all_days()
    assert told(home, "quiet") == quiet_days()
    assert told(home, "full", "week") == {day(0): True}
    found = latest(home, "quiet", day(DAYS - 1))
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.metadata["cents"].value == 1000 + 16 * (DAYS - 1)


def test_a_range_in_dagster_tells_the_same(home: Shop) -> None:
    assert home.run(ASSETS, span=(day(0), day(DAYS - 1))).success

    assert told(home, "believable") == all_days()
    assert told(home, "quiet") == quiet_days()


def test_one_partition_in_dagster_tells_its_own(home: Shop) -> None:
    assert home.run(ASSETS, day(3)).success

    assert told(home, "believable") == {day(3): True}


def test_a_run_of_days_and_the_week_that_reads_them_tells_both(home: Shop) -> None:
    assert home.run([*ASSETS], span=(day(0), day(6))).success
    assert home.run(["week"], day(0)).success

    assert told(home, "full", "week") == {day(0): True}


def test_days_and_what_is_made_of_their_weeks_in_one_run_tell_their_last_events(home: Shop) -> None:
    """The week waits for the days in another step of the run, so that the days get a second event."""
    home.session.refresh()

    assert home.run(["takings", "share"], span=(day(7), day(7))).success

    assert told(home, "quiet")[day(7)] is quiet_days()[day(7)]
    assert len(home.events("takings", day(7))) == 1 + 2


def test_a_fresh_partition_that_is_materialized_again_tells_again(home: Shop) -> None:
    home.session.refresh()

    assert home.run(["takings"], span=(day(0), day(DAYS - 1))).success

    assert home.events("takings", day(0))[0].metadata["reused"].value is True
    assert told(home, "quiet") == quiet_days()


def test_a_value_that_comes_back_tells_what_it_told_before(home: Shop) -> None:
    home.session.refresh()
    shop.land(home.home, shop.FIRST, extra_cents=500)
    home.session.refresh()
    assert told(home, "quiet")[day(0)] is False
    shop.land(home.home, shop.FIRST)

    assert home.session.refresh().as_json()["computed"] == {}

    assert told(home, "quiet")[day(0)] is True


def test_a_check_that_is_run_alone_is_told_again(home: Shop) -> None:
    home.session.refresh()
    key = dg.AssetCheckKey(dg.AssetKey("takings"), "quiet")
    before = latest(home, "quiet", day(2))

    done = home.session.definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(), asset_check_selection={key}
    )
    assert done.execute_in_process(instance=home.session.instance, tags={"dagster/partition": day(2)}).success

    after = latest(home, "quiet", day(2))
    assert (after.passed, after.metadata) == (before.passed, before.metadata)
    assert len(home.events("takings", day(2))) == 1


class TestARefusedValue:
    """What failed is seen, and the last good version stays current."""

    @pytest.fixture
    def refused(self, home: Shop) -> Shop:
        home.session.refresh()
        shop.land(home.home, shop.FIRST + timedelta(days=4), extra_cents=1_000_000)
        report = home.session.refresh()
        assert "adds up to" in report.outcome.failed["takings"][day(4)]
        return home

    def test_its_failed_check_is_told(self, refused: Shop) -> None:
        assert told(refused, "believable") == all_days() | {day(4): False}
        found = latest(refused, "believable", day(4))
        assert found.severity is dg.AssetCheckSeverity.ERROR
        assert "adds up to" in str(found.metadata["refused"].value)

    def test_the_last_good_version_stays_current(self, refused: Shop) -> None:
        assert len(refused.events("takings", day(4))) == 1
        assert refused.session.refresh().as_json()["runs"] == 0
        assert told(refused, "believable")[day(4)] is False

    def test_its_check_passes_again_when_the_file_is_taken_back(self, refused: Shop) -> None:
        shop.land(refused.home, shop.FIRST + timedelta(days=4))

        for _ in range(2):
            report = refused.session.refresh().as_json()
            assert (report["computed"], report["runs"]) == ({}, 1)
            assert told(refused, "believable") == all_days()
            assert refused.session.refresh().as_json()["runs"] == 0
            # The same again: Dagster takes only one evaluation of a partition that no run has made.
            shop.land(refused.home, shop.FIRST + timedelta(days=4), extra_cents=1_000_001)
            assert refused.session.refresh().outcome.failed
            shop.land(refused.home, shop.FIRST + timedelta(days=4))

    def test_the_sensor_sees_to_it_too(self, refused: Shop) -> None:
        shop.land(refused.home, shop.FIRST + timedelta(days=4))

        while requests := refused.tick().run_requests:
            assert all(refused.execute(request).success for request in requests)

        assert told(refused, "believable") == all_days()

    def test_a_refresh_of_something_else_leaves_it_alone(self, refused: Shop) -> None:
        refused.session.refresh(first=shop.FIRST + timedelta(days=5))

        assert told(refused, "believable")[day(4)] is False
