"""What lands wrong is seen by the check that is meant for it, and what is as always is seen by none."""

from datetime import timedelta

import polars as pl
import pytest

from assets_tests.quality.simulated import (
    WATCHED,
    Edit,
    day,
    failed,
    judged,
    simulated,
    with_fault,
)
from my_platform.quality.freshness import missing_days
from my_platform.quality.watch import Thresholds, Watch

DAY = 45
EVERY_FIFTH = pl.int_range(pl.len()) % 5 == 0


def swapped(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(CUSTOMER_ID=pl.col("TERMINAL_ID"), TERMINAL_ID=pl.col("CUSTOMER_ID"))


def shifted(table: pl.DataFrame) -> pl.DataFrame:
    """As by another time zone; what falls on the next day is quarantined before it gets here."""
    later = table.with_columns(pl.col("TX_DATETIME") + timedelta(hours=5))
    return later.filter(pl.col("TX_DATETIME").dt.date() == table["TX_DATETIME"].dt.date()[0])


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda t: t.sample(fraction=0.4, seed=1), ("volume", "")),
        (lambda t: pl.concat([t, t, t]), ("volume", "")),
        (lambda t: t.with_columns(TX_AMOUNT=pl.when(EVERY_FIFTH).then("TX_AMOUNT")), ("nulls", "TX_AMOUNT")),
        (lambda t: t.with_columns(TX_AMOUNT=pl.col("TX_AMOUNT") * float("nan")), ("nulls", "TX_AMOUNT")),
        (
            lambda t: t.with_columns(TX_AMOUNT=pl.when(EVERY_FIFTH).then(-1.0).otherwise("TX_AMOUNT")),
            ("ranges", "TX_AMOUNT"),
        ),
        (
            lambda t: t.with_columns(CUSTOMER_ID=pl.when(EVERY_FIFTH).then(0).otherwise("CUSTOMER_ID")),
            ("drift", "CUSTOMER_ID"),
        ),
        (lambda t: t.with_columns(pl.col("TX_AMOUNT") * 1000), ("ranges", "TX_AMOUNT")),
        (lambda t: t.with_columns(pl.col("TX_AMOUNT") * 1000), ("drift", "TX_AMOUNT")),
        (lambda t: t.with_columns(pl.col("TX_AMOUNT") * 1.5), ("drift", "TX_AMOUNT")),
        (swapped, ("drift", "CUSTOMER_ID")),
        (swapped, ("drift", "TERMINAL_ID")),
        (shifted, ("drift", "TX_DATETIME")),
        (
            lambda t: t.with_columns(pl.col("TRANSACTION_ID") - t.height),
            ("keys_over_days", "TRANSACTION_ID"),
        ),
    ],
    ids=[
        *("60 % less rows", "rows three times", "nulls", "not a number", "minus one", "one customer"),
        *(
            "times 1000",
            "times 1000, drift",
            "times 1.5",
            "swapped",
            "swapped, the other",
            "time zone",
            "keys",
        ),
    ],
)
def test_a_planted_fault_is_seen_by_its_check(edit: Edit, expected: tuple[str, str]) -> None:
    assert expected in failed(with_fault("transactions", DAY, edit))


def test_a_fault_is_seen_after_a_week_of_history() -> None:
    assert ("volume", "") in failed(with_fault("transactions", 7, lambda t: t.head(t.height * 2 // 5)))
    results = with_fault("transactions", 6, lambda t: t.head(t.height * 2 // 5))
    assert failed(results) == set()
    (message,) = results.filter(pl.col("check") == "volume")["message"]
    assert message == "not judged: 6 days before it, 7 are needed"


def test_a_message_says_what_was_found_and_expected() -> None:
    results = with_fault("transactions", DAY, lambda t: t.head(200))
    (message,) = results.filter(pl.col("check") == "volume")["message"]
    assert message.startswith("200 rows, expected ")
    assert message.endswith(" by the 28 days before")


def test_a_fault_far_off_is_an_error_and_a_small_one_a_warning() -> None:
    def severity(share: float) -> str:
        results = with_fault("transactions", DAY, lambda t: t.sample(fraction=share, seed=1))
        (found,) = results.filter(pl.col("check") == "volume")["severity"]
        return str(found)

    assert (severity(0.6), severity(0.1)) == ("warn", "error")


def test_the_day_after_a_fault_is_as_always() -> None:
    tables = dict(simulated(60)["transactions"])
    tables[day(DAY)] = swapped(tables[day(DAY)]).with_columns(pl.col("TX_AMOUNT") * 1000).head(100)
    assert failed(judged(tables, WATCHED["transactions"], only=DAY + 1)) == set()


def test_a_changed_pattern_of_fraud_is_seen_in_the_labels() -> None:
    tables = simulated(80, customers=1000, drift_from=50)["fraud_reports"]
    results = judged(tables, WATCHED["fraud_reports"]).filter(~pl.col("passed"))
    assert set(results["check"]) == {"label_drift"}
    # Labels come a week late, and fraud under the new pattern builds up over another.
    assert day(57) < results["day"].min() <= day(66)


def test_a_missing_day_alarms_none_of_the_days_after_it() -> None:
    tables = {key: table for key, table in simulated(60)["transactions"].items() if key != day(DAY)}
    assert judged(tables, WATCHED["transactions"]).filter(~pl.col("passed")).is_empty()


def test_a_table_without_sundays_misses_none() -> None:
    assert missing_days([day for day in range(60) if day % 7 != 4 and day != 31], 0, 59) == [4, 31]


def test_half_as_many_rows_on_sundays_are_as_always_after_two_of_them() -> None:
    tables = {
        key: table.head(table.height // 2) if number % 7 == 4 else table
        for number, (key, table) in enumerate(simulated(60)["transactions"].items())
    }
    watch = Watch(columns=("CUSTOMER_ID",))
    found = judged(tables, watch).filter(~pl.col("passed"))
    assert found.filter(pl.col("day") >= day(18)).is_empty()
    short = tables | {day(46): tables[day(46)].head(60)}
    assert ("volume", "") in failed(judged(short, watch, only=46))


def test_thresholds_of_a_column_stand_before_those_of_the_table() -> None:
    def edit(table: pl.DataFrame) -> pl.DataFrame:
        return table.with_columns(pl.col("TX_AMOUNT") * 1.5)

    tables = dict(simulated(60)["transactions"])
    tables[day(DAY)] = edit(tables[day(DAY)])
    lenient = Watch(columns=("TX_AMOUNT",), of_column={"TX_AMOUNT": Thresholds(distance=0.9, index=9.0)})
    assert failed(judged(tables, lenient, only=DAY)) == set()


@pytest.mark.parametrize("table", ["transactions", "fraud_reports"])
def test_a_hundred_clean_days_raise_no_alarm(table: str) -> None:
    results = judged(simulated(100)[table], WATCHED[table])
    assert results.filter(~pl.col("passed")).rows(named=True) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("customers", "seed"), [(200, 1), (200, 2), (300, 3), (300, 4), (1000, 5), (1000, 6), (5000, 0)]
)
def test_a_hundred_clean_days_raise_no_alarm_whatever_the_seed_and_size(customers: int, seed: int) -> None:
    for table, watch in WATCHED.items():
        results = judged(simulated(107, customers=customers, seed=seed)[table], watch)
        assert results.filter(~pl.col("passed")).rows(named=True) == []
