import hashlib
import json
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from my_platform.domains.fraud.landing_files import (
    LABEL_DELAY,
    REPORT_SCHEMA,
    TRANSACTION_SCHEMA,
    Calendar,
    LandingSummary,
    SourceError,
    calendar_path,
    read_calendar,
    reports_path,
    simulator_path,
    transactions_path,
)
from my_platform.domains.fraud.simulator import (
    FRAUD_BEFORE_DRIFT,
    SimulatorConfig,
    append_days,
    land_correction,
    land_late_labels,
    land_simulation,
)

FIRST = date(2018, 4, 1)
SMALL = SimulatorConfig(customers=300, terminals=1000, seed=3)


def simulate(
    landing: Path, days: int, config: SimulatorConfig = SMALL, *, first: date = FIRST, closed: bool = True
) -> LandingSummary:
    return land_simulation(landing, first=first, days=days, config=config, closed=closed)


def landed_scenarios(landing: Path) -> pl.DataFrame:
    return pl.read_parquet(sorted((landing / "fraud_scenarios").glob("*.parquet")))


def digests(landing: Path) -> dict[str, str]:
    return {
        str(path.relative_to(landing)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(landing.rglob("*"))
        if path.is_file()
    }


def transactions(landing: Path) -> pl.DataFrame:
    return pl.read_parquet(sorted((landing / "transactions").glob("*.parquet")))


def reports(landing: Path) -> pl.DataFrame:
    return pl.read_parquet(sorted((landing / "fraud_reports").glob("*.parquet")))


def test_the_full_size_has_the_published_rows_and_fraud_share(tmp_path: Path) -> None:
    summary = simulate(tmp_path, 183, SimulatorConfig())
    assert 1_760_000 < summary.rows < 1_780_000
    assert 0.0082 < summary.frauds / summary.rows < 0.0085
    assert (summary.days, summary.files) == (183, 183 + 176 + 2)


def test_files_have_exactly_the_documented_columns(tmp_path: Path) -> None:
    simulate(tmp_path, 8)
    assert pl.read_parquet_schema(transactions_path(tmp_path, FIRST)) == TRANSACTION_SCHEMA
    assert pl.read_parquet_schema(reports_path(tmp_path, date(2018, 4, 8))) == REPORT_SCHEMA
    profile = {"CUSTOMER_ID": pl.Int64, "X": pl.Float64, "Y": pl.Float64}
    profile |= dict.fromkeys(("MEAN_AMOUNT", "STD_AMOUNT", "MEAN_TX_PER_DAY"), pl.Float64)
    assert pl.read_parquet_schema(tmp_path / "customers.parquet") == profile
    terminal = {"TERMINAL_ID": pl.Int64, "X": pl.Float64, "Y": pl.Float64}
    assert pl.read_parquet_schema(tmp_path / "terminals.parquet") == terminal


def test_ids_are_the_rank_in_time_over_the_whole_history(tmp_path: Path) -> None:
    summary = simulate(tmp_path, 10)
    frame = transactions(tmp_path)
    assert frame["TRANSACTION_ID"].to_list() == list(range(summary.rows))
    assert frame["TX_DATETIME"].is_sorted()


def test_each_row_stands_in_the_file_of_its_day(tmp_path: Path) -> None:
    simulate(tmp_path, 9)
    for path in tmp_path.glob("transactions/*.parquet"):
        assert set(pl.read_parquet(path)["TX_DATETIME"].dt.date()) == {date.fromisoformat(path.stem)}


def test_amounts_are_whole_cents_and_not_negative(tmp_path: Path) -> None:
    simulate(tmp_path, 10)
    amount = transactions(tmp_path)["TX_AMOUNT"]
    assert (amount.round(2) == amount).all()
    assert (amount >= 0).all()


def test_customers_use_only_terminals_near_them(tmp_path: Path) -> None:
    simulate(tmp_path, 5)
    places = (
        transactions(tmp_path)
        .join(pl.read_parquet(tmp_path / "customers.parquet"), on="CUSTOMER_ID")
        .join(pl.read_parquet(tmp_path / "terminals.parquet"), on="TERMINAL_ID", suffix="_T")
    )
    distance = ((pl.col("X") - pl.col("X_T")) ** 2 + (pl.col("Y") - pl.col("Y_T")) ** 2).sqrt()
    assert places.select((distance < 5).all()).item()


def test_each_transaction_is_reported_seven_days_later_up_to_the_last_day(tmp_path: Path) -> None:
    simulate(tmp_path, 12)
    due = transactions(tmp_path).filter(pl.col("TX_DATETIME") < datetime(2018, 4, 6))
    reported = reports(tmp_path)
    assert reported["TRANSACTION_ID"].to_list() == due["TRANSACTION_ID"].to_list()
    assert reported["REPORTED_AT"].to_list() == [time + LABEL_DELAY for time in due["TX_DATETIME"]]
    days = [path.stem for path in sorted(tmp_path.glob("fraud_reports/*.parquet"))]
    assert days == [f"2018-04-{day:02}" for day in range(8, 13)]


def test_amounts_above_220_are_fraud(tmp_path: Path) -> None:
    simulate(tmp_path, 30)
    labelled = transactions(tmp_path).join(reports(tmp_path), on="TRANSACTION_ID")
    large = labelled.filter(pl.col("TX_AMOUNT") > 220)
    assert large.height > 10
    assert large["IS_FRAUD"].all()


def test_a_terminal_once_compromised_has_only_frauds_for_at_least_28_days(tmp_path: Path) -> None:
    simulate(tmp_path, 72, SimulatorConfig(customers=1500, terminals=200))
    last_labelled = FIRST + timedelta(days=64)
    daily = (
        transactions(tmp_path)
        .join(reports(tmp_path), on="TRANSACTION_ID")
        .group_by("TERMINAL_ID", pl.col("TX_DATETIME").dt.date().alias("day"))
        .agg(pl.len().alias("n"), pl.col("IS_FRAUD").all().alias("fallen"))
        .filter(pl.col("n").min().over("TERMINAL_ID") >= 4)
        .sort("TERMINAL_ID", "day")
    )
    runs = (
        daily.with_columns(pl.col("fallen").rle_id().over("TERMINAL_ID").alias("run"))
        .filter("fallen")
        .group_by("TERMINAL_ID", "run")
        .agg(pl.col("day").min().alias("start"), pl.col("day").max().alias("end"))
        .filter(pl.col("end") < last_labelled)
    )
    length = runs.select((pl.col("end") - pl.col("start")).dt.total_days() + 1).to_series()
    assert length.len() > 10
    assert length.min() == FRAUD_BEFORE_DRIFT.terminal_days


@pytest.mark.parametrize(("before", "after"), [(1, 1), (5, 30), (20, 3), (34, 1)])
def test_appended_days_give_the_bytes_of_one_longer_simulation(
    tmp_path: Path, before: int, after: int
) -> None:
    simulate(tmp_path / "parts", before)
    summary = append_days(tmp_path / "parts", after)
    simulate(tmp_path / "whole", before + after)
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")
    assert summary.days == after


def test_days_appended_one_by_one_give_the_same_bytes(tmp_path: Path) -> None:
    drifting = SimulatorConfig(customers=100, terminals=1000, seed=9, drift_from=date(2018, 4, 6))
    simulate(tmp_path / "parts", 1, drifting, closed=False)
    for _ in range(11):
        append_days(tmp_path / "parts", 1)
    simulate(tmp_path / "whole", 12, drifting, closed=False)
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")


def test_the_same_simulation_again_leaves_the_bytes(tmp_path: Path) -> None:
    simulate(tmp_path, 12)
    landed = digests(tmp_path)
    simulate(tmp_path, 12)
    simulate(tmp_path, 5)
    assert digests(tmp_path) == landed


def test_a_longer_simulation_continues_a_shorter_one(tmp_path: Path) -> None:
    simulate(tmp_path / "parts", 4)
    simulate(tmp_path / "parts", 12)
    simulate(tmp_path / "whole", 12)
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")


def test_another_seed_gives_other_transactions(tmp_path: Path) -> None:
    simulate(tmp_path / "one", 2)
    simulate(tmp_path / "other", 2, SimulatorConfig(customers=300, terminals=1000, seed=4))
    assert not transactions(tmp_path / "one").equals(transactions(tmp_path / "other"))


def test_a_simulation_cut_short_is_completed_by_the_next(tmp_path: Path) -> None:
    def stop(day: date) -> None:
        if day == date(2018, 4, 9):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        land_simulation(tmp_path / "cut", first=FIRST, days=12, config=SMALL, closed=True, on_day=stop)
    with pytest.raises(SourceError, match="no complete simulation"):
        append_days(tmp_path / "cut", 1)
    simulate(tmp_path / "cut", 12)
    simulate(tmp_path / "whole", 12)
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


def test_on_day_is_told_each_landed_day(tmp_path: Path) -> None:
    told: list[date] = []
    land_simulation(tmp_path, first=FIRST, days=3, config=SMALL, closed=True, on_day=told.append)
    append_days(tmp_path, 1, told.append)
    assert told == [date(2018, 4, day) for day in range(1, 5)]


def test_a_closed_calendar_ends_on_the_last_simulated_day(tmp_path: Path) -> None:
    simulate(tmp_path, 3)
    assert read_calendar(tmp_path) == Calendar(FIRST, date(2018, 4, 3))
    append_days(tmp_path, 2)
    assert read_calendar(tmp_path) == Calendar(FIRST, date(2018, 4, 5))


def test_an_open_calendar_has_no_last_day(tmp_path: Path) -> None:
    simulate(tmp_path, 3, closed=False)
    append_days(tmp_path, 2)
    assert read_calendar(tmp_path) == Calendar(FIRST, None)


def test_a_shorter_simulation_does_not_shorten_the_calendar(tmp_path: Path) -> None:
    simulate(tmp_path, 3)
    simulate(tmp_path, 2)
    assert read_calendar(tmp_path) == Calendar(FIRST, date(2018, 4, 3))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"first": "2018-04-31", "last": null}',
        '{"first": null, "last": null}',
        '{"first": 20180401, "last": null}',
        '{"first": "2018-04-02", "last": "2018-04-01"}',
    ],
)
def test_a_damaged_calendar_is_refused(tmp_path: Path, text: str) -> None:
    calendar_path(tmp_path).write_text(text)
    with pytest.raises(SourceError, match=r"calendar\.json is damaged"):
        read_calendar(tmp_path)


def test_an_empty_landing_has_no_calendar(tmp_path: Path) -> None:
    assert read_calendar(tmp_path) is None


def test_a_drift_leaves_the_days_before_it(tmp_path: Path) -> None:
    drift = date(2018, 4, 11)
    simulate(tmp_path / "plain", 25)
    simulate(tmp_path / "drift", 25, SimulatorConfig(customers=300, terminals=1000, seed=3, drift_from=drift))
    plain, drifting = digests(tmp_path / "plain"), digests(tmp_path / "drift")
    differing = {path for path, digest in plain.items() if drifting[path] != digest}
    assert {path for path in differing if path < f"transactions/{drift}"} <= {
        "simulator.json",
        *(f"fraud_reports/2018-04-{day}.parquet" for day in range(18, 26)),
    }
    assert reports_path(Path(), drift + LABEL_DELAY).as_posix() in differing


def test_a_drift_makes_frauds_more_and_smaller(tmp_path: Path) -> None:
    drift = date(2018, 5, 11)
    config = SimulatorConfig(customers=1000, terminals=2000, drift_from=drift)
    simulate(tmp_path, 80, config)
    labelled = transactions(tmp_path).join(reports(tmp_path), on="TRANSACTION_ID")
    frauds = labelled.group_by(pl.col("TX_DATETIME").dt.date() >= drift, maintain_order=True).agg(
        pl.col("IS_FRAUD").mean().alias("share"),
        pl.col("TX_AMOUNT").filter("IS_FRAUD").mean().alias("amount"),
    )
    assert frauds["share"][1] > 1.3 * frauds["share"][0]
    assert frauds["amount"][1] < 0.8 * frauds["amount"][0]


def test_a_drift_can_be_set_while_days_are_appended(tmp_path: Path) -> None:
    drift = date(2018, 4, 11)
    simulate(tmp_path / "parts", 10)
    append_days(tmp_path / "parts", 5, drift_from=drift)
    simulate(tmp_path / "whole", 15, SimulatorConfig(customers=300, terminals=1000, seed=3, drift_from=drift))
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")


def test_a_drift_on_a_landed_day_is_refused(tmp_path: Path) -> None:
    simulate(tmp_path, 10)
    with pytest.raises(SourceError, match="holds the simulation"):
        append_days(tmp_path, 5, drift_from=date(2018, 4, 10))


@pytest.mark.parametrize(
    ("first", "config"),
    [(date(2018, 4, 2), SMALL), (FIRST, SimulatorConfig(customers=300, terminals=1000, seed=4))],
)
def test_a_landing_with_another_simulation_is_refused(
    tmp_path: Path, first: date, config: SimulatorConfig
) -> None:
    simulate(tmp_path, 2)
    landed = digests(tmp_path)
    with pytest.raises(SourceError, match="holds the simulation"):
        simulate(tmp_path, 2, config, first=first)
    assert digests(tmp_path) == landed


def test_a_landing_with_other_data_is_refused(tmp_path: Path) -> None:
    path = transactions_path(tmp_path, FIRST)
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(SourceError, match="did not land"):
        simulate(tmp_path, 2)


def test_appending_to_no_simulation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no complete simulation"):
        append_days(tmp_path, 1)


@pytest.mark.parametrize("field", ["customers", "seed", "first", "days", "rows", "drift_from"])
def test_a_damaged_simulator_file_is_refused(tmp_path: Path, field: str) -> None:
    simulate(tmp_path, 2)
    path = simulator_path(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: "many"}))
    with pytest.raises(SourceError, match=rf"simulator\.json is damaged: expected {field}"):
        append_days(tmp_path, 1)


@pytest.mark.parametrize(("customers", "terminals", "seed"), [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_an_impossible_config_is_refused(customers: int, terminals: int, seed: int) -> None:
    with pytest.raises(SourceError, match="expected at least"):
        SimulatorConfig(customers, terminals, seed)


def test_no_days_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected at least 1, found 0"):
        simulate(tmp_path, 0)


def test_a_single_customer_far_from_any_terminal_lands_empty_days(tmp_path: Path) -> None:
    summary = simulate(tmp_path, 8, SimulatorConfig(customers=1, terminals=1))
    assert summary == LandingSummary(rows=0, frauds=0, days=8, files=8 + 1 + 2)
    assert pl.read_parquet_schema(transactions_path(tmp_path, FIRST)) == TRANSACTION_SCHEMA


def test_a_correction_changes_one_amount_by_a_few_cents(tmp_path: Path) -> None:
    simulate(tmp_path, 3)
    before, files = (pl.read_parquet(transactions_path(tmp_path, FIRST)), digests(tmp_path))
    correction = land_correction(tmp_path, FIRST)
    after = pl.read_parquet(transactions_path(tmp_path, FIRST))
    changed = before["TX_AMOUNT"] != after["TX_AMOUNT"]
    assert after.filter(changed).select("TRANSACTION_ID", "TX_AMOUNT").row(0) == (
        correction.transaction_id,
        correction.amount_after,
    )
    assert changed.sum() == 1
    assert 0.01 <= round(correction.amount_after - correction.amount_before, 2) <= 0.09
    assert before.drop("TX_AMOUNT").equals(after.drop("TX_AMOUNT"))
    assert [path for path, digest in digests(tmp_path).items() if files[path] != digest] == [
        "transactions/2018-04-01.parquet"
    ]


def test_a_correction_of_a_day_that_is_not_landed_is_refused(tmp_path: Path) -> None:
    simulate(tmp_path, 3)
    with pytest.raises(SourceError, match=r"2018-04-04\.parquet is not landed"):
        land_correction(tmp_path, date(2018, 4, 4))


def test_late_labels_move_to_the_next_day_and_none_is_lost(tmp_path: Path) -> None:
    simulate(tmp_path, 10)
    day, next_day = date(2018, 4, 8), date(2018, 4, 9)
    before, landed = (reports(tmp_path), pl.read_parquet(reports_path(tmp_path, day)).height)
    moved = land_late_labels(tmp_path, day, 0.1)
    after = reports(tmp_path)
    assert len(moved) == round(0.1 * landed)
    assert pl.read_parquet(reports_path(tmp_path, day)).height == landed - len(moved)
    late = pl.read_parquet(reports_path(tmp_path, next_day)).filter(pl.col("TRANSACTION_ID").is_in(moved))
    assert late.height == len(moved)
    assert set(late["REPORTED_AT"].dt.date()) == {next_day}
    labels = ["TRANSACTION_ID", "IS_FRAUD"]
    assert before.select(labels).sort(labels).equals(after.select(labels).sort(labels))


def test_late_labels_need_a_later_day_that_is_landed(tmp_path: Path) -> None:
    simulate(tmp_path, 9)
    landed = digests(tmp_path)
    with pytest.raises(SourceError, match=r"2018-04-10\.parquet is not landed"):
        land_late_labels(tmp_path, date(2018, 4, 9), 0.5)
    assert digests(tmp_path) == landed


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_an_impossible_share_of_late_labels_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(SourceError, match="expected a share"):
        land_late_labels(tmp_path, date(2018, 4, 8), share)


def test_a_broken_landed_file_is_named(tmp_path: Path) -> None:
    simulate(tmp_path, 1)
    transactions_path(tmp_path, FIRST).write_bytes(b"no parquet")
    with pytest.raises(SourceError, match=r"2018-04-01\.parquet is no readable Parquet file"):
        land_correction(tmp_path, FIRST)


def test_the_kind_of_each_reported_fraud_lands_when_it_is_asked_for(tmp_path: Path) -> None:
    simulate(tmp_path / "without", 30)
    land_simulation(tmp_path / "with", first=FIRST, days=30, config=SMALL, closed=True, scenarios=True)

    assert digests(tmp_path / "without").items() <= digests(tmp_path / "with").items()
    found = landed_scenarios(tmp_path / "with")
    frauds = reports(tmp_path / "with").filter("IS_FRAUD").select("TRANSACTION_ID", "REPORTED_AT")
    assert sorted(found.select(frauds.columns).rows()) == sorted(frauds.rows())
    kinds = dict(found.group_by("SCENARIO").len().iter_rows())
    assert sorted(kinds) == [1, 2, 3]
    amounts = transactions(tmp_path / "with").select("TRANSACTION_ID", "TX_AMOUNT")
    known = amounts.join(found, on="TRANSACTION_ID")
    assert known.filter(SCENARIO=1)["TX_AMOUNT"].min() > 220
    assert set(amounts.filter(pl.col("TX_AMOUNT") > 220)["TRANSACTION_ID"]) & set(
        reports(tmp_path / "with")["TRANSACTION_ID"]
    ) <= set(found["TRANSACTION_ID"])


def test_days_that_are_appended_have_the_kinds_of_their_frauds_too(tmp_path: Path) -> None:
    for name, days in (("whole", 20), ("parts", 12)):
        land_simulation(tmp_path / name, first=FIRST, days=days, config=SMALL, closed=True, scenarios=True)
    append_days(tmp_path / "parts", 8)
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")
