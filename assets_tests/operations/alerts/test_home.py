"""The alerts of a real home: what goes wrong in it is told once on loopback, by the command and by the sensor."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets_tests import homes
from assets_tests.operations import watched_shop
from assets_tests.operations.alerts.receivers import WebReceiver, web_server
from assets_tests.operations.dagster_shop import Shop
from assets_tests.operations.watched_shop import DAYS, ORDERS, day, land, land_all
from my_platform.definitions import build_definitions
from my_platform.learning.ledger import Line, PromotionLedger, Served, Standing, now
from my_platform.operations.alerts.sensor import ALERT_SENSOR
from my_platform.operations.session import opened
from my_platform.settings import Settings

DOMAIN = "assets_tests.operations.watched_shop"
TENFOLD = pl.col("AMOUNT") * 10


@pytest.fixture(scope="module")
def web() -> Iterator[WebReceiver]:
    with web_server() as found:
        yield found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that is up to date; the tests of this file change it one after the other."""
    folder = tmp_path_factory.mktemp("alerts") / "a home"
    land_all(folder)
    with watched_shop.opened_shop(folder) as shop:
        assert shop.session.refresh().problems == []
    return folder


def settings(home: Path, web: WebReceiver, **more: Any) -> Settings:
    return Settings(**{"home": home, "domains": (DOMAIN,), "alert_webhook_url": web.url, **more})


def tick(home: Path, web: WebReceiver, **more: Any) -> str:
    """One look of the sensor; what it says of it."""
    with opened(settings(home, web, **more)) as session:
        repository = build_definitions(session.settings, session.workspace).get_repository_def()
        with dg.build_sensor_context(instance=session.instance, repository_def=repository) as context:
            result = repository.get_sensor_def(ALERT_SENSOR).evaluate_tick(context)
    assert not result.run_requests
    assert result.skip_message is not None
    return result.skip_message


def new(web: WebReceiver) -> list[tuple[str, str]]:
    """What came since this was asked last."""
    found = [(alert["what"], alert["key"]) for alert in web.alerts]
    web.bodies.clear()
    return found


def failed_runs(home: Path) -> int:
    with watched_shop.opened_shop(home) as shop:
        failures = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])
        return shop.session.instance.get_runs_count(failures)


def refresh(home: Path) -> None:
    with watched_shop.opened_shop(home) as shop:
        shop.session.refresh()


def test_a_healthy_home_has_nothing_to_say(home: Path, web: WebReceiver) -> None:
    assert tick(home, web) == "0 alerts last, 0 were new, 0 wait for a receiver"
    assert web.requests == 0


def test_a_broken_file_is_told_once_until_it_is_mended(home: Path, web: WebReceiver) -> None:
    land(home, 5, lambda rows: rows.drop("AMOUNT"))
    refresh(home)
    # Its runs fail, which is no other alert.
    assert failed_runs(home) == 1
    key = f"refused raw/orders {day(5)}"
    tick(home, web)
    tick(home, web)
    assert new(web) == [("began", key)]
    land(home, 5)
    refresh(home)
    tick(home, web)
    assert new(web) == [("ended", key)]


def test_drift_and_a_failed_check_are_told_of_the_current_value_and_end_with_it(
    home: Path, web: WebReceiver
) -> None:
    land(home, DAYS - 1, lambda rows: rows.with_columns(TENFOLD))
    refresh(home)
    tick(home, web)
    tick(home, web)
    told = {alert["key"]: alert for alert in web.alerts}
    drift = told[f"check drift of {ORDERS} {day(DAYS - 1)}"]
    assert (drift["kind"], drift["what"]) == ("drift", "began")
    assert drift["run_id"] in drift["link"]
    assert "AMOUNT" in drift["said"]
    assert len(web.alerts) == len(told)
    web.bodies.clear()
    # The same fault in another file: other content, and the check fails as it did.
    land(home, DAYS - 1, lambda rows: rows.with_columns(TENFOLD + 1))
    refresh(home)
    tick(home, web)
    assert new(web) == []
    land(home, DAYS - 1)
    refresh(home)
    tick(home, web)
    assert {(what, key) for what, key in new(web)} == {("ended", key) for key in told}


def test_a_run_that_broke_off_is_told_with_its_reason_and_its_attempts_are_one_alert(
    home: Path, web: WebReceiver
) -> None:
    with watched_shop.opened_shop(home) as shop:
        for _ in range(2):
            failed_run(shop)
    tick(home, web)
    (alert,) = web.alerts
    assert (alert["kind"], alert["key"]) == ("run_failed", "run wave 1")
    assert "the disk is full" in alert["said"]
    assert alert["link"].endswith(f"/runs/{alert['run_id']}")
    web.bodies.clear()
    tick(home, web)
    assert new(web) == []


def test_a_run_whose_process_is_gone_is_told(home: Path, web: WebReceiver) -> None:
    with watched_shop.opened_shop(home) as shop:
        instance = shop.session.instance
        run = instance.create_run_for_job(
            shop.session.definitions.resolve_job_def("refresh"), status=dg.DagsterRunStatus.STARTED
        )
        instance.report_run_failed(run, "the process of this run is gone")
    tick(home, web)
    (alert,) = web.alerts
    assert "a run of refresh failed. the process of this run is gone" in alert["said"]
    web.bodies.clear()


def failed_run(shop: Shop) -> None:
    @dg.op
    def work() -> None:
        raise OSError("the disk is full")

    @dg.job
    def daily_tables() -> None:
        work()

    silent = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    daily_tables.execute_in_process(
        instance=shop.session.instance,
        tags={"my_platform/wave": "wave 1"},
        run_config=silent,
        raise_on_error=False,
    )


def test_a_promotion_and_a_rollback_are_told_once(home: Path, web: WebReceiver) -> None:
    ledger = PromotionLedger(home / "registry" / "promotions.jsonl")
    first, second = (Served("model", week, "v", "r", "b") for week in (day(0), day(7)))
    for action, before, after in (
        ("promote", None, first),
        ("promote", first, second),
        ("rollback", second, first),
    ):
        seen = Standing((), len(ledger.lines("shop")))
        assert ledger.append(Line(now(), "ada", action, "shop", "why not", before, after), seen)  # type: ignore[arg-type]
    tick(home, web)
    tick(home, web)
    assert [alert["kind"] for alert in web.alerts] == ["promotion", "promotion", "rollback"]
    assert "(by ada: why not)" in web.alerts[-1]["said"]
    web.bodies.clear()


def test_a_day_that_costs_more_than_it_may_is_told_once(home: Path, web: WebReceiver) -> None:
    for _ in range(2):
        tick(home, web, budget_cpu_s=0.001)
    (alert,) = web.alerts
    assert "processor seconds were spent" in alert["said"]
    web.bodies.clear()
    tick(home, web)
    assert [what for what, _ in new(web)] == ["ended"]


def test_a_day_that_did_not_land_is_told_until_it_lands(home: Path, web: WebReceiver) -> None:
    gone = watched_shop.file_of(home, 8).rename(home / "aside.parquet")
    refresh(home)
    tick(home, web)
    assert new(web) == [("began", f"missing raw/orders {day(8)}")]
    gone.rename(watched_shop.file_of(home, 8))
    refresh(home)
    tick(home, web)
    assert new(web) == [("ended", f"missing raw/orders {day(8)}")]


@pytest.mark.slow
def test_the_command_shows_without_sending_and_two_that_send_at_once_send_it_once(
    home: Path, web: WebReceiver
) -> None:
    land(home, 6, lambda rows: rows.drop("AMOUNT"))
    refresh(home)
    given = {"domains": DOMAIN, "alert_webhook_url": web.url}
    code = homes.CHECKOUT
    shown = homes.answer(homes.start(home, "alerts", "--json", code=code, **given), code=1)
    (refused,) = shown["open"]
    assert refused["command"] == f"my-platform why raw/orders {day(6)}"
    assert (new(web), shown["waiting"], len(shown["new"])) == ([], 0, 1)
    both = [homes.start(home, "alerts", "--send", "--json", code=code, **given) for _ in range(2)]
    answers = [homes.answer(process, code=1) for process in both]
    assert new(web) == [("began", f"refused raw/orders {day(6)}")]
    assert sorted(answer["delivered"].get("webhook", 0) for answer in answers) == [0, 1]


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_sends_loses_nothing(home: Path, web: WebReceiver) -> None:
    land(home, 6, lambda rows: rows.drop("AMOUNT"))
    refresh(home)
    tick(home, web)
    web.bodies.clear()
    land(home, 6)
    refresh(home)
    script = (
        "import os, sys; from my_platform.operations.alerts import channels, home, telling\n"
        "channels.Webhook.send = lambda self, notices: os.kill(os.getpid(), 9)\n"
        "from my_platform.cli import main; sys.argv[1:] = ['alerts', '--send']; main()"
    )
    variables = {"MY_PLATFORM_HOME": str(home), "MY_PLATFORM_DOMAINS": DOMAIN}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **variables, "MY_PLATFORM_ALERT_WEBHOOK_URL": web.url},
        cwd=homes.CHECKOUT,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -9
    assert new(web) == []
    tick(home, web)
    assert new(web) == [("ended", f"refused raw/orders {day(6)}")]
    logged = [json.loads(line) for line in (home / "alerts" / "alerts.jsonl").read_text().splitlines()]
    assert len({line["id"] for line in logged}) == len(logged)


@pytest.mark.slow
def test_a_test_alert_goes_to_everybody_and_says_who_cannot_be_reached(home: Path, web: WebReceiver) -> None:
    given = {"domains": DOMAIN, "alert_webhook_url": web.url}
    sent = homes.answer(homes.start(home, "alerts", "--test", "--json", **given))
    assert sent["delivered"] == {"log": 1, "webhook": 1}
    assert [alert["kind"] for alert in web.alerts] == ["test"]
    web.status = 500
    failed = homes.answer(homes.start(home, "alerts", "--test", "--json", **given), code=1)
    assert failed["failed"] == {"webhook": "it answered 500 Internal Server Error"}
