"""The service's log landed as a table, and its features held against the offline ones, on a small simulated home."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets_tests import homes
from assets_tests.domains.fraud.conftest import SERVED, Served, served_home
from assets_tests.serving.service_log import other, table
from my_platform.domains.fraud import logged
from my_platform.domains.fraud.features import FEATURES, customer_spending, terminal_risk
from my_platform.domains.fraud.landing_files import transactions_path
from my_platform.operations.forecast import forecast
from my_platform.operations.home import land_logs
from my_platform.operations.log_sensor import LOG_SENSOR
from my_platform.operations.promotion import judge
from my_platform.operations.session import Session
from my_platform.serving.log_landing import land_log

SKEW, LOG = "training_serving_skew", "validated/scored_requests"
OF_LOG = ("raw/scored_requests", LOG, "profiles/scored_requests", "checks/scored_requests", SKEW)


def test_a_home_without_a_service_has_no_partition_of_the_log_and_waits_for_none(before: Path) -> None:
    with homes.session(before) as opened:
        versions = opened.versions()
        waiting = forecast(opened.workspace, opened.heads).as_json()["waiting"]
        assert opened.refresh().runs == 0
    assert [versions[name] for name in OF_LOG] == [{}] * len(OF_LOG)
    assert not set(OF_LOG) & set(waiting)


def test_every_finished_day_of_the_log_lands_and_is_taken(served: Served) -> None:
    rows = {day: table(served.session, "validated/transactions", day).height for day in SERVED}
    assert served.landed == {"written": rows, "unchanged": 0, "open_days": []}
    assert served.report.problems == []
    computed = served.report.as_json()["computed"]
    assert {name: computed[name] for name in OF_LOG} == dict.fromkeys(OF_LOG, SERVED)
    assert {day: table(served.session, LOG, day).height for day in SERVED} == rows


def test_a_landed_row_says_what_was_scored_with_what_and_when(served: Served) -> None:
    found = table(served.session, LOG, SERVED[0])
    rows = table(served.session, "validated/transactions", SERVED[0])
    champion = served.session.models.registry.ledger.standing("fraud").champion
    assert champion is not None
    assert found.select(rows.columns).equals(rows)
    assert found.select("MODEL", "WEEK", "BUNDLE").unique().rows() == [
        (champion.model, champion.week, champion.bundle)
    ]
    assert (found["SCORED_AT"] > found["TX_DATETIME"]).all()
    assert (found["FLAGGED"] == (found["PROBABILITY"] >= found["THRESHOLD"])).all()
    assert [name for name in found.columns if name.startswith("F_")] == [f"F_{name}" for name in FEATURES]


def test_a_log_that_has_not_changed_lands_nothing_and_causes_no_work(served: Served) -> None:
    files = {path: path.stat() for path in (served.home / "landing/scored_requests").iterdir()}
    (served.home / "serving/fraud/landed.json").unlink()
    again = land_logs(served.session.settings)["scored_requests"]
    assert (dict(again.written), again.unchanged) == ({}, len(SERVED))
    assert {path: path.stat() for path in files} == files
    assert served.session.refresh().runs == 0


def test_the_sensor_lands_a_day_that_has_changed_and_says_so(served: Served, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(served.home, home)
    landed = home / "landing" / "scored_requests"
    before = {path.name: path.read_bytes() for path in landed.iterdir()}
    (landed / f"{SERVED[0]}.parquet").unlink()
    with homes.session(home) as opened:
        repository = opened.definitions.get_repository_def()
        sensor = repository.get_sensor_def(LOG_SENSOR)
        said = []
        for _ in range(2):
            with dg.build_sensor_context(instance=opened.instance, repository_def=repository) as context:
                said.append(sensor.evaluate_tick(context).skip_message)

    rows = served.landed["written"][SERVED[0]]
    assert said == [
        f"landed scored_requests {SERVED[0]}: {rows:,} rows",
        "no finished day of a log has changed",
    ]
    assert {path.name: path.read_bytes() for path in landed.iterdir()} == before


def test_served_features_are_the_offline_ones_bit_for_bit(served: Served) -> None:
    found = pl.concat([table(served.session, SKEW, day) for day in SERVED])
    assert found["feature"].to_list() == [*FEATURES] * len(SERVED)
    assert found.select(pl.sum("mismatches", "missing", "extra", "degraded_rows")).row(0) == (0, 0, 0, 0)
    per_day = found["rows"].gather_every(len(FEATURES)).to_list()
    assert per_day == [table(served.session, LOG, day).height for day in SERVED]
    checks = served.session.checks(LOG)[LOG]
    assert all(row["passed"] for rows in checks.values() for row in rows if row["check"] == SKEW)
    assert all(SKEW in {row["check"] for row in rows} for rows in checks.values())


def _in_tenths() -> dict[str, Any]:
    cents = {"tx_cents": (pl.col("TX_AMOUNT") * 10).round().cast(pl.Int64) * 10}
    return {"sets": other(customer_spending, derive=cents, event_derive=cents)}


def _shorter_window() -> dict[str, Any]:
    aggregates = {
        name: replace(aggregate, days=6) if aggregate.days == 7 else aggregate
        for name, aggregate in terminal_risk.aggregates.items()
    }
    return {"sets": other(terminal_risk, aggregates=aggregates)}


def _local_time() -> dict[str, Any]:
    return {"told": lambda row: {**row, "TX_DATETIME": row["TX_DATETIME"] + 2 * 3_600_000_000}}


@pytest.mark.parametrize(
    ("skew", "expected"),
    [
        (_in_tenths, {"CUSTOMER_ID_AVG_AMOUNT_1DAY_WINDOW", "CUSTOMER_ID_PAST_AVG_AMOUNT"}),
        (_shorter_window, {"TERMINAL_ID_NB_TX_7DAY_WINDOW"}),
        (_local_time, {"TX_DURING_NIGHT"}),
    ],
    ids=["another rounding", "another window edge", "another time zone"],
)
def test_a_planted_skew_is_caught_and_stands_in_the_way_of_promotion(
    before: Path, skew: Any, expected: set[str]
) -> None:
    with served_home(before, **skew()) as skewed:
        opened = skewed.session
        found = pl.concat([table(opened, SKEW, day) for day in SERVED])
        differing = found.filter(pl.sum_horizontal("mismatches", "missing", "extra") > 0)
        assert expected <= set(differing["feature"])
        failed = {
            day
            for day, rows in opened.checks(LOG)[LOG].items()
            for row in rows
            if row["check"] == SKEW and not row["passed"] and row["severity"] == "error"
        }
        assert failed == set(differing_days(opened))
        standing = opened.models.registry.ledger.standing("fraud")
        against = judge(opened.models, opened.models.named("fraud_lightgbm"), standing).verdict
        assert any(f"{SKEW} {max(failed)}: check {SKEW}" in reason for reason in against.against)
        assert not against.can_be_forced
        page = (skewed.home / "reports/quality/index.html").read_text()
        assert SKEW in page


def differing_days(session: Session, days: Sequence[str] = SERVED) -> list[str]:
    return [
        day
        for day in days
        if table(session, SKEW, day).select(pl.sum("mismatches", "missing", "extra")).sum_horizontal().item()
    ]


def test_degraded_rows_are_counted_apart(before: Path) -> None:
    with homes.session(before) as opened:
        doubted = frozenset(
            table(opened, "validated/transactions", SERVED[0])["TRANSACTION_ID"].to_list()[:5]
        )

    def told(row: dict[str, Any]) -> dict[str, Any]:
        wrong = row["TX_AMOUNT"] + 1 if row["TRANSACTION_ID"] in doubted else row["TX_AMOUNT"]
        return {**row, "TX_AMOUNT": wrong}

    with served_home(before, told=told, doubted=doubted) as degraded:
        first = table(degraded.session, SKEW, SERVED[0]).row(0, named=True)
        assert first["feature"] == "TX_AMOUNT"
        assert (first["mismatches"], first["degraded_rows"], first["degraded_differences"]) == (0, 5, 5)


def test_rows_whose_features_other_code_made_are_not_held_against_the_present_one(
    before: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("my_platform.serving.log_landing.feature_code", lambda *_: "other code")
    with served_home(before, **_local_time()) as moved:
        found = table(moved.session, SKEW, SERVED[0])
        assert set(found["rows"]) == {0}
        assert differing_days(moved.session) == []


def test_a_day_that_is_not_over_does_not_land(served: Served) -> None:
    settings = served.session.settings
    with homes.folder_in_memory() as folder:
        (described,) = logged(settings)
        now = datetime.fromisoformat(SERVED[-1]).replace(hour=12, tzinfo=UTC)
        shutil.copy(settings.serving / "fraud/log.sqlite", folder / "log.sqlite")
        done = land_log(folder, folder / "landing", settings.registry / "bundles", described, now=now)
        assert (list(done.written), list(done.open_days)) == (SERVED[:-1], SERVED[-1:])
        assert transactions_path(folder / "landing", homes.FIRST).exists() is False
