"""Marts as dbt makes them, by day."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from my_platform.marts.errors import MartError, MartRefused, MartTestFailed
from my_platform.marts.runner import MartRun, _reads, run_marts

SHIPPED_MARTS = ("daily_fraud_by_segment", "daily_fraud_by_terminal", "daily_volume_by_segment")
ALL = (*SHIPPED_MARTS, "cards_in_window", "doubled_cards")

Files = Mapping[str, Mapping[str, Path]]


@pytest.fixture(scope="module")
def ranged(run: Any, files: Files, days: list[str]) -> MartRun:
    """All marts of the last three days and one that has not landed, from all files."""
    return run(ALL, files, [*days[3:], "2018-04-09"])


def transactions(files: Files, day: str, table: str = "validated_transactions") -> pl.DataFrame:
    cents = (pl.col("TX_AMOUNT") * 100).round().cast(pl.Int64)
    return pl.read_parquet(files[table][day], glob=False).with_columns(cents=cents)


def test_a_range_gives_what_its_days_give_one_by_one(
    ranged: MartRun, run: Any, files: Files, days: list[str]
) -> None:
    alone = run(
        ALL,
        {
            "validated_transactions": {day: files["validated_transactions"][day] for day in days[2:5]},
            "labelled_transactions": {days[4]: files["labelled_transactions"][days[4]]},
            "validated_customers": files["validated_customers"],
        },
        [days[4]],
    )
    for mart in ALL:
        assert list(alone.tables[mart]) == [days[4]]
        together = ranged.tables[mart][days[4]]
        assert alone.tables[mart][days[4]].equals(together, null_equal=True)
        assert alone.tables[mart][days[4]].schema == together.schema


def test_frauds_by_terminal_are_those_of_the_labels(ranged: MartRun, files: Files, days: list[str]) -> None:
    labelled = transactions(files, days[3], "labelled_transactions")
    fraud = pl.col("IS_FRAUD")
    expected = (
        labelled.group_by(terminal_id="TERMINAL_ID")
        .agg(
            labelled=pl.len().cast(pl.Int64),
            frauds=fraud.sum().cast(pl.Int64),
            fraud_rate=fraud.sum().cast(pl.Float64) / pl.len(),
            amount_cents=pl.col("cents").sum(),
            fraud_amount_cents=pl.col("cents").filter(fraud).sum(),
        )
        .sort("terminal_id")
    )
    assert ranged.tables["daily_fraud_by_terminal"][days[3]].drop("partition_day").equals(expected)


def test_customers_fall_into_segments_by_mean_amount(ranged: MartRun, files: Files, days: list[str]) -> None:
    # Customer n < 30 has a mean of 3 n; the others have no profile.
    bounds = {"low": (0, 9), "middle": (9, 17), "high": (17, 25), "top": (25, 30), "unknown": (30, 60)}
    rows = transactions(files, days[3])
    table = ranged.tables["daily_volume_by_segment"][days[3]]
    for segment, (first, end) in bounds.items():
        own = rows.filter(pl.col("CUSTOMER_ID").is_between(first, end, closed="left"))
        expected = (own.height, own["CUSTOMER_ID"].n_unique(), own["cents"].sum())
        found = table.filter(pl.col("segment") == segment).drop("partition_day", "segment").rows()
        assert found == ([expected] if own.height else [])


def test_segments_hold_every_row(ranged: MartRun, files: Files, days: list[str]) -> None:
    labelled = transactions(files, days[5], "labelled_transactions")
    table = ranged.tables["daily_fraud_by_segment"][days[5]]
    assert table["labelled"].sum() == labelled.height
    assert table["amount_cents"].sum() == labelled["cents"].sum()


def test_rows_are_in_the_order_of_their_key(ranged: MartRun, days: list[str]) -> None:
    table = ranged.tables["daily_fraud_by_terminal"][days[3]]
    assert table["terminal_id"].to_list() == sorted(table["terminal_id"])
    assert table["partition_day"].cast(str).unique().to_list() == [days[3]]


@pytest.mark.parametrize("mart", SHIPPED_MARTS)
def test_a_day_without_rows_is_an_empty_table_of_the_same_types(
    ranged: MartRun, days: list[str], mart: str
) -> None:
    empty = ranged.tables[mart]["2018-04-09"]
    assert empty.is_empty()
    assert empty.schema == ranged.tables[mart][days[3]].schema
    assert empty.schema["amount_cents"] == pl.Int64


def test_a_window_reaches_back_and_no_further(ranged: MartRun, files: Files, days: list[str]) -> None:
    window = pl.concat(transactions(files, day) for day in days[2:5])
    assert ranged.tables["cards_in_window"][days[4]]["cards"].item() == window["CUSTOMER_ID"].n_unique()


def test_days_that_nobody_asked_for_are_neither_tested_nor_given(ranged: MartRun, days: list[str]) -> None:
    # The first days have fewer cards in their windows than the mart's own test allows.
    assert list(ranged.tables["cards_in_window"]) == [*days[3:], "2018-04-09"]
    assert {result.status for result in ranged.tests["cards_in_window"]} == {"pass"}


def test_a_test_of_severity_warn_gives_the_table_and_says_so(ranged: MartRun) -> None:
    (result,) = ranged.tests["doubled_cards"]
    assert (result.status, result.rows, result.test.column) == ("warn", 3, "doubled")


def test_a_mart_of_a_mart_takes_its_stored_days(
    ranged: MartRun, run: Any, days: list[str], tmp_path: Path
) -> None:
    stored = {day: tmp_path / f"{day}.parquet" for day in days[3:]}
    for day, path in stored.items():
        ranged.tables["cards_in_window"][day].write_parquet(path)
    later = run(["doubled_cards"], {"cards_in_window": stored}, days[3:])
    for day in days[3:]:
        assert later.tables["doubled_cards"][day].equals(ranged.tables["doubled_cards"][day])


def test_a_failing_test_names_mart_test_rows_and_days(
    run: Any, files: Files, days: list[str], tmp_path: Path
) -> None:
    negative = transactions(files, days[1], "labelled_transactions").with_columns(-pl.col("TX_AMOUNT"))
    negative.write_parquet(tmp_path / "negative.parquet")
    labels = {days[0]: files["labelled_transactions"][days[0]], days[1]: tmp_path / "negative.parquet"}
    with pytest.raises(MartTestFailed) as caught:
        run(["daily_fraud_by_terminal"], {"labelled_transactions": labels}, days[:2])
    failures = {failure.test: failure for failure in caught.value.failures}
    failed = failures["within_daily_fraud_by_terminal_amount_cents__0"]
    assert (failed.mart, failed.rows, failed.days) == ("daily_fraud_by_terminal", 5, (days[1],))
    assert caught.value.days == (days[1],)
    assert "daily_fraud_by_terminal: test within_daily_fraud_by_terminal_amount_cents__0 found 5" in str(
        caught.value
    )


def test_a_mart_can_open_no_file_that_it_was_not_given(run: Any, days: list[str]) -> None:
    with pytest.raises(MartRefused, match=r"mart peeking: .*Cannot access file"):
        run(["peeking"], {}, days[:1])


def test_an_unknown_mart_is_refused(run: Any, days: list[str]) -> None:
    with pytest.raises(MartError, match="no marts named no_such; the project has cards_in_window, "):
        run(["no_such"], {}, days[:1])


def test_no_days_call_nothing(run: Any) -> None:
    assert run(["peeking"], {}, []) == MartRun({"peeking": {}}, {"peeking": ()})


def test_code_that_moved_since_it_was_loaded_is_refused(project: Any, days: list[str]) -> None:
    mart = project.marts()["doubled_cards"]
    old = replace(mart, code={**mart.code, "sql": "select 1"})
    with pytest.raises(MartError, match="doubled_cards was edited after this process had loaded it"):
        run_marts(project.folder, project.target, ["doubled_cards"], {}, days[:1], loaded=[old])


def test_earlier_days_of_a_mart_of_the_same_run_are_refused(project: Any) -> None:
    marts = project.marts()
    reads = {"cards_in_window": replace(marts["doubled_cards"].reads["cards_in_window"], first=-1)}
    with pytest.raises(MartError, match="of which this run makes only its own"):
        _reads([marts["cards_in_window"], replace(marts["doubled_cards"], reads=reads)])
