"""The audit of real homes, by command."""

import inspect
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from assets_tests.operations import shop
from assets_tests.operations.device_shop import SLEEP_S
from my_platform.cli import app
from my_platform.operations import session
from my_platform.operations.alerts import conditions
from my_platform.operations.audit import findings
from my_platform.operations.audit.facts import history

DAYS = 9


def audit(home: Path, *words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["--home", str(home), "audit", *words, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MY_PLATFORM_DOMAINS", "assets_tests.operations.shop")
    return tmp_path / "home"


def refresh(home: Path) -> None:
    refresh_of(home, "assets_tests.operations.shop")


def refresh_of(home: Path, domain: str) -> None:
    with session.opened(shop.settings(home, domains=(domain,))) as opened:
        opened.refresh()


def test_an_empty_home_says_what_is_missing(home: Path) -> None:
    found = audit(home)

    assert (found["computed"], found["findings"]) == (0, [])
    assert "nothing was computed: run `my-platform refresh`" in found["untold"]
    assert any("no file has landed" in each for each in found["untold"])


def test_a_healthy_home_has_no_finding_and_keeps_its_levels(home: Path) -> None:
    shop.land_days(home, DAYS)
    refresh(home)

    found = audit(home)

    assert found["findings"] == []
    fresh = {each["about"]: each for each in found["service_levels"] if each["name"] == "freshness"}
    assert {name: each["cases"] for name, each in fresh.items()}["validated/orders"] == DAYS
    assert all(each["met"] for each in fresh.values())


def test_a_file_that_lands_again_as_it_was_is_fresh_and_a_refused_one_is_not(home: Path) -> None:
    shop.land_days(home, DAYS)
    refresh(home)
    shop.land(home, shop.FIRST)
    refused = shop.land(home, shop.FIRST + timedelta(days=1))
    refused.write_text("no table")
    refresh(home)

    found = audit(home)

    (raw,) = [each for each in found["service_levels"] if each["about"] == "raw/orders"]
    # Nothing had to be done of the first, and the refused one has been lying there since it landed.
    assert raw["cases"] == DAYS - 1
    assert untaken(home) == {"raw/orders": [str(shop.FIRST + timedelta(days=1))]}


def untaken(home: Path) -> Any:
    with session.opened(shop.settings(home)) as opened:
        opened.workspace.look()
        return history(opened.workspace, opened.heads).untaken


def test_what_there_is_to_do_names_commands_that_exist() -> None:
    text = inspect.getsource(findings) + inspect.getsource(conditions)
    named = set(re.findall(r"my-platform ([a-z][a-z-]*)", text))
    known = {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }
    assert named
    assert named <= {name.replace("_", "-") for name in known}


def test_a_value_that_was_lost_and_computed_again_is_told(home: Path) -> None:
    shop.land_days(home, DAYS)
    refresh(home)
    with session.opened(shop.settings(home)) as opened:
        index = opened.workspace.lake.index
        computed = len(list(index.costs()))
        last = max(opened.versions()["shop_week"])
        version = opened.versions()["shop_week"][last]
        (fingerprint,) = index.find("shop_week", last, version)
        opened.workspace.lake.discard("shop_week", last, fingerprint)
    refresh(home)

    found = audit(home)

    assert found["computed"] == computed + 1
    (finding,) = found["findings"]
    assert finding["kind"] == "computed_again"
    assert finding["evidence"][0].startswith(f"shop_week {last} (run ")


def run_job(home: Path, days: int) -> dg.ExecuteInProcessResult:
    with session.opened(shop.settings(home)) as opened:
        return (
            opened.definitions.get_repository_def()
            .get_job("service_levels")
            .execute_in_process(
                instance=opened.instance,
                run_config={"ops": {"write_service_levels": {"config": {"days": days}}}},
                raise_on_error=False,
            )
        )


def test_the_job_writes_the_page_and_links_it_from_its_run(home: Path) -> None:
    shop.land_days(home, DAYS)
    refresh(home)
    shop.land(home, shop.FIRST + timedelta(days=1)).write_text("no table")
    refresh(home)

    done = run_job(home, 7)

    assert done.success
    (output,) = [event for event in done.all_events if event.is_successful_output]
    shown = output.step_output_data.metadata
    path = Path(str(shown["page"].value))
    assert shown["page_url"].value == path.as_uri()
    assert "The last 7 days" in path.read_text()
    assert shown["met"].value == path.read_text().count('class="met"') > 0
    assert "freshness" in path.read_text()


def test_a_page_that_cannot_be_written_fails_the_run_with_where(home: Path) -> None:
    (home / "reports").mkdir(parents=True)
    (home / "reports" / "service-levels").write_text("a file")

    done = run_job(home, 30)

    (failed,) = [event for event in done.all_events if event.is_step_failure]
    assert f"{home}/reports/service-levels/index.html cannot be written" in str(
        failed.step_failure_data.error
    )


def test_the_page_is_written_each_morning_where_somebody_switches_that_on(home: Path) -> None:
    with session.opened(shop.settings(home)) as opened:
        schedule = opened.definitions.get_repository_def().get_schedule_def("service_levels_each_morning")
        with dg.build_schedule_context(
            instance=opened.instance, scheduled_execution_time=datetime(2026, 1, 9, 6, tzinfo=UTC)
        ) as context:
            tick = schedule.evaluate_tick(context)

    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    assert schedule.cron_schedule == "0 6 * * *"
    assert schedule.job_name == "service_levels"
    assert len(tick.run_requests or ()) == 1


def test_the_page_has_what_the_command_says(home: Path) -> None:
    shop.land_days(home, DAYS)
    refresh(home)

    found = audit(home, "--page")

    page = Path(found["page"]).read_text()
    assert page.count('class="met"') == sum(each["met"] is True for each in found["service_levels"])
    assert "Nothing was found." in page
    assert "http" not in page


def test_a_device_that_waits_for_slow_storage_is_told_with_what_to_do(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_PLATFORM_DOMAINS", "assets_tests.operations.device_shop")
    shop.land_days(home, DAYS)
    with session.opened(shop.settings(home, domains=("assets_tests.operations.device_shop",))) as opened:
        opened.refresh()
        ledger = list(opened.workspace.lake.index.costs())
        event = opened.heads.instance.get_latest_materialization_event(dg.AssetKey("fitted"))
    assert event is not None
    assert event.asset_materialization is not None
    shown = event.asset_materialization.metadata

    found = audit(home)

    (finding,) = [one for one in found["findings"] if one["kind"] == "idle_device"]
    fits = [(c.gpu_waited_s or 0.0, c.gpu_idle_s or 0.0, c.gpu_s) for c in ledger if c.asset == "fitted"]
    assert len(fits) == 2
    # A read of a shard sleeps, and the first of each epoch is waited for.
    assert all(SLEEP_S <= waited <= idle <= held for waited, idle, held in fits)
    assert shown["gpu_idle_seconds"].value in {idle for _, idle, _ in fits}
    assert finding["what"].startswith("fitted holds devices")
    assert f"; {sum(waited for waited, _, _ in fits):,.1f} s of it waiting for data" in finding["figure"]
    assert {(c.gpu_idle_s, c.gpu_s > 0) for c in ledger if c.asset == "silent"} == {(None, True)}
    assert [each for each in found["untold"] if each.startswith("silent: for how long the devices")]
    lost_index(home)
    assert audit(home)["findings"] == found["findings"]


def lost_index(home: Path) -> None:
    """Lose the index and have it filled again from the stored values."""
    for path in (home / "lake").glob("index.sqlite*"):
        path.unlink()
    refresh_of(home, "assets_tests.operations.device_shop")
