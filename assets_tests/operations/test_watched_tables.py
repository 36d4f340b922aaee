"""Results of checks in Dagster: by partition, whatever ran, and right after everything that can happen."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets_tests.homes import folder_in_memory
from assets_tests.operations.dagster_shop import Shop
from assets_tests.operations.watched_shop import (
    CHECKS,
    DAYS,
    ORDERS,
    PASSED,
    PROFILES,
    RAW,
    day,
    evaluations,
    failed,
    file_of,
    land,
    land_all,
    opened_shop,
    settings,
    shown,
)
from my_platform.definitions import build_definitions
from my_platform.errors import PlatformError
from my_platform.operations.heads import DagsterHeads
from my_platform.operations.missing import missing
from my_platform.storage.places import LandingBucket

BROKEN = 12
ALL_PASSED = dict.fromkeys(["contract", "volume", "nulls", "ranges", "drift", "keys_over_days"], PASSED)

LANDED = {"freshness": PASSED, "schema": PASSED}


def many(rows: pl.DataFrame) -> pl.DataFrame:
    """Every order with ten more like it."""
    more = [rows.with_columns(pl.col("ORDER_ID") + 1_000_000 * (n + 1)) for n in range(10)]
    return pl.concat([rows, *more])


@pytest.fixture(scope="module")
def built() -> Iterator[Path]:
    """A home with clean days in which everything is computed."""
    with folder_in_memory() as folder:
        land_all(folder / "home")
        with opened_shop(folder / "home") as shop:
            shop.session.refresh()
        yield folder / "home"


@pytest.fixture
def home(built: Path) -> Iterator[Path]:
    """A copy of it, at the same place in its folder."""
    with folder_in_memory() as folder:
        shutil.copytree(built, folder / "home")
        yield folder / "home"


@pytest.fixture
def shop(home: Path) -> Iterator[Shop]:
    with opened_shop(home) as opened:
        yield opened


def evaluation(shop: Shop, check: str, partition: str, asset: str = ORDERS) -> dg.AssetCheckEvaluation:
    """The latest evaluation of a check on a partition."""
    records = shop.session.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey.from_user_string(asset), check), limit=10_000
    )
    found = next(record.evaluation for record in records if record.partition == partition)
    assert found is not None
    return found


class TestRefresh:
    def test_every_day_has_its_own_results(self, shop: Shop) -> None:
        assert shown(shop) == {day(n): ALL_PASSED for n in range(DAYS)}
        assert shown(shop, RAW) == {day(n): LANDED for n in range(DAYS)}

    def test_a_table_without_partitions_has_results_too(self, shop: Shop) -> None:
        assert shown(shop, "validated/shops") == {"": dict.fromkeys(["contract", "nulls"], PASSED)}

    def test_a_fault_fails_the_check_of_its_day_and_no_other(self, shop: Shop) -> None:
        land(shop.home, BROKEN, many)
        report = shop.session.refresh()

        assert failed(shop) == {(day(BROKEN), "volume")}
        found = evaluation(shop, "volume", day(BROKEN))
        assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
        assert "3,300 rows, expected" in str(found.description)
        assert found.metadata["rows"].value == 3300
        assert report.outcome.computed["turnover"] == [day(BROKEN)]

    def test_a_fault_that_is_taken_back_is_shown_as_healed_and_nothing_is_computed(self, shop: Shop) -> None:
        land(shop.home, BROKEN, many)
        shop.session.refresh()
        land(shop.home, BROKEN)
        report = shop.session.refresh()

        assert report.outcome.computed == {}
        assert shown(shop) == {day(n): ALL_PASSED for n in range(DAYS)}

    def test_an_idle_refresh_writes_nothing(self, shop: Shop) -> None:
        before = evaluations(shop)
        assert shop.session.refresh().runs == 0
        assert evaluations(shop) == before

    def test_a_correction_costs_its_day_and_the_days_that_look_back_on_it(self, shop: Shop) -> None:
        before = evaluations(shop)
        land(shop.home, 3, lambda rows: rows.with_columns(pl.col("AMOUNT") + 1))
        computed = shop.session.refresh().outcome.computed

        assert computed[PROFILES] == [day(3)]
        assert computed[CHECKS] == [day(n) for n in range(3, DAYS)]
        # The corrected day is told from landing on, the days that look back on it by what looks back.
        assert evaluations(shop) == before + len(LANDED) + 1 + (DAYS - 3) * (len(ALL_PASSED) - 1)

    def test_a_correction_that_leaves_the_profile_costs_a_week_of_keys(self, shop: Shop) -> None:
        profile = shop.session.versions()[PROFILES][day(3)]
        for row in range(300):
            raised = pl.when(pl.int_range(pl.len()) == row).then(pl.col("AMOUNT") + 0.01).otherwise("AMOUNT")
            land(shop.home, 3, lambda rows, raised=raised: rows.with_columns(AMOUNT=raised))  # type: ignore[misc]
            shop.session.refresh(select=f"+{PROFILES}")
            if shop.session.versions()[PROFILES][day(3)] == profile:
                break
        computed = shop.session.refresh().outcome.computed

        assert computed[CHECKS] == [day(n) for n in range(3, 10)]
        assert shown(shop)[day(3)] == ALL_PASSED

    def test_a_corrected_row_that_is_taken_back_has_results_that_belong_to_it(self, shop: Shop) -> None:
        land(shop.home, 3, lambda rows: rows.with_columns(pl.col("ORDER_ID") + 500_000))
        shop.session.refresh()
        land(shop.home, 3)
        done = shop.session.refresh()

        assert (done.outcome.computed, done.runs) == ({}, 1)
        assert CHECKS not in done.outcome.reused or day(9) not in done.outcome.reused[CHECKS]
        assert shown(shop) == {day(n): ALL_PASSED for n in range(DAYS)}
        assert shop.session.refresh().runs == 0

    def test_a_run_that_dies_before_the_head_moves_is_made_up_for(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        land(shop.home, BROKEN, many)
        emit = DagsterHeads.emit

        def dies(self: DagsterHeads, asset: str, *rest: Any) -> None:
            if asset == CHECKS:
                raise KeyboardInterrupt
            emit(self, asset, *rest)

        with monkeypatch.context() as patched:
            patched.setattr(DagsterHeads, "emit", dies)
            with pytest.raises(PlatformError, match="KeyboardInterrupt"):
                shop.session.refresh()
        shop.session.refresh()
        assert failed(shop) == {(day(BROKEN), "volume")}

    def test_the_page_is_written_and_linked(self, shop: Shop) -> None:
        page = shop.home / "reports" / "quality" / "index.html"
        event = shop.events(CHECKS, day(3))[0]
        assert event.metadata["failed"].value == []
        assert str(event.metadata["report"].value).endswith("reports/quality/index.html")
        land(shop.home, BROKEN, many)
        shop.session.refresh()
        assert "3,300 rows, expected" in page.read_text()
        assert shop.events(CHECKS, day(BROKEN))[0].metadata["failed"].value == ["volume"]


class TestRefusedAndMissing:
    def test_a_refused_file_fails_its_day_until_it_is_taken_back(self, shop: Shop) -> None:
        whole = file_of(shop.home, BROKEN).read_bytes()
        file_of(shop.home, BROKEN).write_bytes(b"no table")
        shop.session.refresh()

        assert failed(shop) == {(day(BROKEN), "schema")}
        found = evaluation(shop, "schema", day(BROKEN), RAW)
        assert str(file_of(shop.home, BROKEN)) in str(found.description)
        (row,) = [
            row for row in shop.session.checks(ORDERS, day(BROKEN))[ORDERS][day(BROKEN)] if not row["passed"]
        ]
        assert (row["check"], row["severity"]) == ("schema", "error")
        assert "The last good version stays current" in row["message"]

        file_of(shop.home, BROKEN).write_bytes(whole)
        report = shop.session.refresh()
        assert (report.outcome.computed, report.runs) == ({}, 1)
        assert failed(shop) == set()
        assert shown(shop)[day(BROKEN)] == ALL_PASSED
        assert shop.session.refresh().runs == 0

    def test_rows_that_break_the_contract_fail_it_when_they_are_too_many(self, shop: Shop) -> None:
        land(shop.home, BROKEN, lambda rows: rows.with_columns(-pl.col("AMOUNT") - 1))
        before = shop.session.versions()
        shop.session.refresh()
        assert failed(shop) == {(day(BROKEN), "contract")}
        after = shop.session.versions()
        assert {name for name in after if after[name] != before[name]} == {RAW}
        assert "rows break the contract" in str(evaluation(shop, "contract", day(BROKEN)).description)

    def test_more_rows_in_quarantine_than_usual_are_a_warning(self, shop: Shop) -> None:
        few = pl.when(pl.int_range(pl.len()) < 6).then(-1.0).otherwise("AMOUNT")
        land(shop.home, BROKEN, lambda rows: rows.with_columns(AMOUNT=few))
        shop.session.refresh()
        assert failed(shop) == {(day(BROKEN), "contract")}
        found = evaluation(shop, "contract", day(BROKEN))
        assert (found.severity, found.metadata["quarantined_rows"].value) == (dg.AssetCheckSeverity.WARN, 6)

    def test_the_sensor_sees_that_a_refusal_is_over(self, shop: Shop) -> None:
        whole = file_of(shop.home, BROKEN).read_bytes()
        for data, expected in ((b"no table", {(day(BROKEN), "schema")}), (whole, set())):
            file_of(shop.home, BROKEN).write_bytes(data)
            while requests := shop.tick().run_requests:
                for request in requests:
                    shop.execute(request)
            assert failed(shop) == expected

    def test_a_refused_day_that_was_never_there_fails_too(self, shop: Shop) -> None:
        file_of(shop.home, DAYS).write_bytes(b"no table")
        shop.session.refresh()
        assert failed(shop) == {(day(DAYS), "schema")}

    def test_a_day_that_is_gone_fails_until_it_lands(self, shop: Shop) -> None:
        file_of(shop.home, BROKEN).unlink()
        assert shop.session.refresh().runs == 1
        assert failed(shop) == {(day(BROKEN), "freshness")}
        assert "did not land" in str(evaluation(shop, "freshness", day(BROKEN), RAW).description)
        assert [row["check"] for row in shop.session.checks(ORDERS, day(BROKEN))[ORDERS][day(BROKEN)]] == [
            "freshness"
        ]
        assert shop.session.refresh().runs == 0

        land(shop.home, BROKEN)
        shop.session.refresh()
        assert failed(shop) == set()
        assert shown(shop)[day(BROKEN)] == ALL_PASSED

    def test_a_day_that_never_came_fails_too(self, shop: Shop) -> None:
        land(shop.home, DAYS + 1)
        shop.session.refresh()
        assert failed(shop) == {(day(DAYS), "freshness")}

    @pytest.mark.parametrize(("hours", "late"), [(5, []), (7, [day(DAYS)]), (31, [day(DAYS), day(DAYS + 1)])])
    def test_a_day_is_late_from_its_hour_on(self, shop: Shop, hours: int, late: list[str]) -> None:
        due_from = datetime.fromisoformat(day(DAYS)) + timedelta(days=1, hours=hours)
        now_s = due_from.replace(tzinfo=UTC).timestamp()
        workspace = shop.session.workspace
        workspace.look()
        assert missing(workspace, now_s) == {}
        (shop.home / "landing" / "calendar.json").unlink()
        assert missing(workspace, now_s).get(RAW, []) == late

    def test_a_data_set_that_has_ended_misses_nothing_in_a_bucket_either(
        self, shop: Shop, bucket: Any
    ) -> None:
        workspace, years_later_s = shop.session.workspace, datetime(2040, 1, 1, tzinfo=UTC).timestamp()
        workspace.look()
        workspace.landing.place = LandingBucket("s3://home/landing")
        assert missing(workspace, years_later_s)[RAW][0] == day(DAYS)
        calendar = (shop.home / "landing" / "calendar.json").read_bytes()
        bucket.put_object(Bucket="home", Key="landing/calendar.json", Body=calendar)
        assert missing(workspace, years_later_s) == {}


class TestRuns:
    def test_pressing_materialize_on_a_fresh_day_keeps_its_results(self, shop: Shop) -> None:
        assert shop.run([ORDERS], day(3)).success
        assert shown(shop)[day(3)] == ALL_PASSED

    def test_pressing_materialize_on_a_changed_day_runs_its_checks(self, shop: Shop) -> None:
        land(shop.home, BROKEN, many)
        assert shop.run(["raw/orders", ORDERS], day(BROKEN)).success
        assert failed(shop) == {(day(BROKEN), "volume")}
        assert len(shop.events(PROFILES, day(BROKEN))) == 2

    def test_a_range_has_results_for_each_of_its_days(self, shop: Shop) -> None:
        land(shop.home, BROKEN, many)
        assert shop.run(["raw/orders", ORDERS], span=(day(2), day(DAYS - 1))).success
        assert failed(shop) == {(day(BROKEN), "volume")}
        assert all(set(found) == set(ALL_PASSED) for found in shown(shop).values())

    def test_a_table_without_partitions_keeps_its_results(self, shop: Shop) -> None:
        assert shop.run(["validated/shops"]).success
        assert shown(shop, "validated/shops") == {"": dict.fromkeys(["contract", "nulls"], PASSED)}

    def test_a_failed_check_does_not_fail_the_run_or_what_reads_the_day(self, shop: Shop) -> None:
        land(shop.home, BROKEN, many)
        assert shop.run(["raw/orders", ORDERS, "turnover"], day(BROKEN)).success
        assert len(shop.events("turnover", day(BROKEN))) == 2

    def test_the_sensor_asks_for_results_when_what_they_read_is_final(self, shop: Shop) -> None:
        land(shop.home, BROKEN, many)
        asked = []
        while requests := shop.tick().run_requests:
            for request in requests:
                asked.append({key.to_user_string() for key in request.asset_selection or ()})
                assert shop.execute(request).success
        assert any(CHECKS in names for names in asked)
        assert failed(shop) == {(day(BROKEN), "volume")}
        # Every partition of the results was computed once, on final inputs.
        traces = [t for t in shop.traces() if t.asset == CHECKS]
        assert len(traces) == DAYS + (DAYS - BROKEN)

    def test_the_sensor_shows_what_no_run_can_show(self, shop: Shop) -> None:
        file_of(shop.home, BROKEN).unlink()
        while requests := shop.tick().run_requests:
            for request in requests:
                shop.execute(request)
        assert (day(BROKEN), "freshness") in failed(shop)


class TestDefinitions:
    def test_every_check_is_declared_on_the_table_that_is_checked(self, shop: Shop) -> None:
        graph = shop.session.definitions.resolve_asset_graph()
        keys = {key.name for key in graph.asset_check_keys if key.asset_key.to_user_string() == ORDERS}
        assert keys == set(ALL_PASSED)

    def test_a_data_set_that_goes_on_is_expected_by_its_hour_and_a_closed_one_is_not(
        self, home: Path
    ) -> None:
        def policy(name: str) -> Any:
            graph = build_definitions(settings(home), any_instance=True).resolve_asset_graph()
            return graph.get(dg.AssetKey.from_user_string(name)).freshness_policy

        assert policy(RAW) is None
        (home / "landing" / "calendar.json").unlink()
        assert policy(RAW).deadline_cron == "0 6 * * *"
        assert policy("turnover") is None
