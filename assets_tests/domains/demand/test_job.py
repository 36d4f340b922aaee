"""The second domain from landed files to a champion: what a forecast takes beside what fraud takes is nothing."""

import json
import shutil
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from my_platform.cli import app
from my_platform.errors import PlatformError
from my_platform.incremental.memory import Memory
from my_platform.operations.session import opened
from my_platform.settings import Settings
from my_platform.storage.lake import Lake
from my_platform.storage.objects import FolderStore
from my_platform.storage.trace_index import TraceIndex

# A Thursday; the models are of Wednesdays.
FIRST, DAYS, METERS = "2026-01-01", 45, 8
LAST_WEEK, TESTED_WEEK = "2026-02-11", "2026-02-04"


def call(home: Path, *arguments: object, code: int = 0) -> dict[str, object]:
    done = CliRunner().invoke(app, ["--home", str(home), *map(str, arguments), "--json"])
    assert done.exit_code == code, done.output
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demand")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MY_PLATFORM_DOMAINS", "my_platform.domains.demand")
        call(folder, "simulate", "--days", DAYS, "--start", FIRST, "--meters", METERS)
        found = call(folder, "refresh")
        assert found["failed"] == {}
    return folder


@pytest.fixture(autouse=True)
def of_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PLATFORM_DOMAINS", "my_platform.domains.demand")


def stored(home: Path, asset: str, partition: str) -> pl.DataFrame:
    lake = Lake(
        FolderStore(home / "lake"),
        FolderStore(home / "quarantine"),
        TraceIndex(home / "lake" / "index.sqlite"),
    )
    versions = call(home, "versions")[asset]
    return lake.read(asset, partition, versions[partition])  # type: ignore[index]


def test_a_second_refresh_computes_nothing(home: Path) -> None:
    again = call(home, "refresh")
    assert (again["runs"], again["computed"]) == (0, {})


def test_the_forecast_beats_the_naive_one(home: Path) -> None:
    found = call(home, "evaluation")
    assert found["week"] == max(call(home, "versions")["demand_evaluation"])  # type: ignore[call-overload]
    assert found["intervals"]["skill"]["low"] > 0.1  # type: ignore[index]
    assert found["models"]["demand_lightgbm"]["mae"] < found["models"]["naive"]["mae"]  # type: ignore[index]


def test_the_figures_are_those_of_the_rows(home: Path) -> None:
    tested = stored(home, "demand_test_set", TESTED_WEEK)
    rows = tested.join(stored(home, "demand_predictions", TESTED_WEEK), on="HOUR_ID")
    errors = (rows["WATT_HOURS"] - rows["score"]).to_numpy()
    found = call(home, "evaluation", "--week", TESTED_WEEK, "--use", "demand")["metrics"]

    assert rows.height == 7 * 24 * METERS
    assert found["mae"] == pytest.approx(np.abs(errors).mean())  # type: ignore[index]
    assert found["rmse"] == pytest.approx(np.sqrt((errors**2).mean()))  # type: ignore[index]


def test_the_naive_forecast_is_the_demand_of_a_week_ago(home: Path) -> None:
    week_before, week = (
        stored(home, "demand_test_set", key).select(
            "METER_ID", "STARTS_AT", "WATT_HOURS", "WATT_HOURS_A_WEEK_AGO"
        )
        for key in ("2026-01-28", TESTED_WEEK)
    )
    moved = week_before.with_columns(pl.col("STARTS_AT").dt.offset_by("7d"))
    both = week.join(moved, on=["METER_ID", "STARTS_AT"], suffix="_THEN")

    assert both.height == 7 * 24 * METERS
    assert (both["WATT_HOURS_A_WEEK_AGO"] == both["WATT_HOURS_THEN"]).all()


def test_a_training_set_knows_nothing_of_its_day(home: Path) -> None:
    rows = stored(home, "demand_training_set", LAST_WEEK)
    assert str(rows["READ_AT"].max()) < LAST_WEEK
    assert str(rows["STARTS_AT"].dt.date().max()) == "2026-02-08"


def test_the_last_model_is_champion_by_the_gate(home: Path) -> None:
    (line,) = call(home, "promotions")["promotions"]  # type: ignore[misc]
    assert (line["use"], line["after"]["model"], line["who"]) == ("demand", "demand_lightgbm", "gate")
    said = {reason["rule"]: reason["said"] for reason in line["gate"]["reasons"]}
    assert "its forecasts sum to" in said["calibrated"]
    assert "fraud" not in json.dumps(line)


def test_the_report_and_the_card_speak_of_forecasts(home: Path) -> None:
    html = (home / "reports" / "demand" / "demand_lightgbm" / f"{TESTED_WEEK}.html").read_text()
    (told,) = [
        each for each in call(home, "models")["uses"]["demand"]["models"] if each["week"] == TESTED_WEEK
    ]  # type: ignore[index]

    assert "Mean absolute error by hour" in html
    assert "| WEEKEND = yes |" in told["card"]
    assert "fraud" not in (html.split("</style>")[1] + told["card"]).lower()
    assert told["metrics"]["mae"] == call(home, "evaluation", "--week", TESTED_WEEK)["metrics"]["mae"]  # type: ignore[index]


def test_a_corrected_reading_is_followed_to_what_reads_it(home: Path) -> None:
    path = home / "landing" / "readings" / "2026-02-10.parquet"
    before = path.read_bytes()
    rows = pl.read_parquet(path)
    path.unlink()
    rows.with_columns(pl.col("WATT_HOURS") + 1000).write_parquet(path)
    corrected = call(home, "refresh")["computed"]
    path.unlink()
    path.write_bytes(before)
    back = call(home, "refresh")

    assert corrected["known_demand"] == ["2026-02-10"]  # type: ignore[index]
    assert LAST_WEEK in corrected["demand_lightgbm"]  # type: ignore[index]
    assert "2026-01-28" not in corrected["demand_lightgbm"]  # type: ignore[index]
    assert back["computed"] == {}


@pytest.mark.parametrize("command", ["threshold demand --checks 5 --why x", "tune demand_lightgbm", "serve"])
def test_what_only_a_search_for_few_rows_has_is_refused_in_words(home: Path, command: str) -> None:
    done = CliRunner().invoke(app, ["--home", str(home), *command.split()])
    assert isinstance(done.exception, PlatformError)


def test_two_domains_live_in_one_home_side_by_side(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PLATFORM_DOMAINS", "my_platform.domains.demand,my_platform.domains.fraud")
    planned = call(home, "plan")
    assert "demand_lightgbm" not in json.dumps(planned.get("owed", {}))


def trained(home: Path, folder: Path, limit: int | None) -> dict[str, object]:
    """Training sets over another window, and their replays, made with so much room for rows."""
    shutil.copytree(home, folder)
    given = Settings(home=folder, domains=("my_platform.domains.demand",), training_window_days=14)
    with opened(given) as session:
        session.workspace.memory = Memory(limit, folder / "spill")
        report = session.refresh(select="group:training")
        assert report.problems == []
        log, lake, found = session.instance, session.workspace.lake, session.versions()
        sets = log.fetch_materializations(dg.AssetKey("demand_training_set"), limit=2).records
        assert all(record.asset_materialization for record in sets)
        about = [
            dict(record.asset_materialization.metadata) for record in sets if record.asset_materialization
        ]
        return {
            "computed": report.outcome.computed,
            "in parts": ["parts by HOUR_ID" in str(each.get("computed")) for each in about],
            "told": [(each["days"].value, each["first_day"].value) for each in about],
            "versions": {name: found[name] for name in ("demand_training_set", "demand_training_set_replay")},
            "checks": {
                (name, week): (lake.record(name, week, version) or {})["checks"]
                for name in ("demand_training_set", "demand_training_set_replay")
                for week, version in found[name].items()
            },
        }


def test_a_training_set_in_parts_is_the_one_in_memory_and_so_is_its_replay(
    home: Path, tmp_path: Path
) -> None:
    plenty, little = (
        trained(home, tmp_path / name, limit) for name, limit in (("plenty", None), ("little", 2_000_000))
    )
    assert plenty.pop("in parts") == [False, False]
    assert little.pop("in parts") == [True, True]
    assert plenty["computed"]
    assert plenty == little
