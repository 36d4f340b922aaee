"""A day that is missing from a training window: the week waits for it, or is trained without it and says so."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from assets_tests.homes import day, folder_in_memory, land, session
from my_platform.domains.fraud.landing_files import transactions_path
from my_platform.domains.fraud.training import days_without_rows
from my_platform.operations.forecast import forecast
from my_platform.storage.lake import json_in

MISSING = 10
# Fourteen days that end a week before the Wednesday on which the week begins.
WEEK = day(21)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """21 days of which one never came."""
    with folder_in_memory() as folder:
        land(folder / "home" / "landing", 21, customers=60, terminals=120)
        transactions_path(folder / "home" / "landing", date.fromisoformat(day(MISSING))).unlink()
        yield folder / "home"


def test_a_week_waits_for_a_day_that_is_missing_from_its_window(home: Path) -> None:
    with session(home, training_window_days=14) as opened:
        planned = forecast(opened.workspace, opened.heads).as_json()
    waiting = planned["waiting"]
    assert WEEK not in planned["certain"].get("training_set", {})
    assert waiting["training_set"][WEEK].startswith(f"waits for customer_spending {day(MISSING)}")
    assert waiting["fraud_lightgbm"][WEEK].startswith(f"waits for training_set {WEEK}")


def test_a_week_is_trained_without_the_day_and_names_it_where_that_is_the_policy(home: Path) -> None:
    with session(home, training_window_days=14, training_gaps="pass") as opened:
        report = opened.refresh(select='+key:"fraud_lightgbm"')
        assert report.problems == []
        assert WEEK in report.outcome.computed["fraud_lightgbm"]
        versions = opened.versions()
        model = opened.workspace.lake.read("fraud_lightgbm", WEEK, versions["fraud_lightgbm"][WEEK])
        (event,) = [
            record.asset_materialization
            for record in opened.instance.fetch_materializations(
                dg.AssetKey("training_set"), limit=100
            ).records
            if record.partition_key == WEEK
        ]
    assert json_in(model, "about.json")["train"]["days_without_rows"] == [day(MISSING)]
    assert event is not None
    assert event.metadata["days_without_rows"].value == [day(MISSING)]
    assert f"customer_spending {day(MISSING)}" in event.metadata["gaps"].value


def test_days_are_missing_from_the_first_row_to_the_end_of_the_window() -> None:
    t0 = date(2025, 1, 22)
    there = [t0 - timedelta(days=7 + number) for number in (2, 3, 5)]
    times = pl.Series([datetime(d.year, d.month, d.day, 12) for d in there])
    assert days_without_rows(times, t0, 14) == ["2025-01-11", "2025-01-14"]
    assert days_without_rows(times.clear(), t0, 14) == []
