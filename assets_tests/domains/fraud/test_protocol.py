import os
from collections.abc import Collection
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from my_platform.domains.fraud import protocol

T0 = date(2018, 8, 8)
CHECKOUT = Path(__file__).parents[3]

Transaction = tuple[int, int, int]


def moment(days_from_t0: int, hour: int = 12) -> datetime:
    return datetime(T0.year, T0.month, T0.day, hour) + timedelta(days=days_from_t0)


def transactions(*rows: Transaction) -> pl.LazyFrame:
    """Transactions from (id, days from T0, card)."""
    return pl.LazyFrame(
        {
            "TRANSACTION_ID": [number for number, _, _ in rows],
            "TX_DATETIME": [moment(day) for _, day, _ in rows],
            "CUSTOMER_ID": [card for _, _, card in rows],
            "TX_AMOUNT": [10.0 * number for number, _, _ in rows],
        }
    )


def labels(*rows: tuple[int, datetime, bool]) -> pl.LazyFrame:
    """Reports from (id, time, fraud)."""
    schema = {"TRANSACTION_ID": pl.Int64, "REPORTED_AT": pl.Datetime("us"), "IS_FRAUD": pl.Boolean}
    return pl.LazyFrame(list(rows), schema=schema, orient="row")


def on_time(*rows: Transaction, frauds: Collection[int] = ()) -> pl.LazyFrame:
    """A report for each transaction, seven days after it."""
    return labels(*((number, moment(day + 7), number in frauds) for number, day, _ in rows))


def in_training(
    rows: tuple[Transaction, ...], reports: pl.LazyFrame, window_days: int = 7
) -> dict[int, bool]:
    """The label of each training row by its id."""
    frame = protocol.training_rows(transactions(*rows), reports, T0, window_days).collect()
    return dict(frame.select("TRANSACTION_ID", "IS_FRAUD").rows())


def in_test(rows: tuple[Transaction, ...], reports: pl.LazyFrame) -> dict[int, bool]:
    """The label of each test row by its id."""
    frame = protocol.test_rows(transactions(*rows), reports, T0).collect()
    return dict(frame.select("TRANSACTION_ID", "IS_FRAUD").rows())


def test_training_rows_keep_their_columns_in_whatever_order_they_come() -> None:
    rows = [(5, -8, 50), (1, -9, 10), (2, -9, 20), (3, -8, 30), (4, -40, 40)]
    reports = on_time(*rows, frauds=(2,))
    expected = [(1, 10, 10.0, False), (2, 20, 20.0, True), (3, 30, 30.0, False), (5, 50, 50.0, False)]
    for given in (rows, sorted(rows), [row for row in sorted(rows) if row[0] != 4]):
        found = protocol.training_rows(transactions(*given), reports, T0, 7).collect()
        columns = found.select("TRANSACTION_ID", "CUSTOMER_ID", "TX_AMOUNT", "IS_FRAUD")
        assert columns.rows() == expected


@pytest.fixture(scope="module")
def handbook() -> tuple[pl.LazyFrame, pl.LazyFrame]:
    default = CHECKOUT.parent / "shared" / "data" / "handbook" / "transactions"
    folder = Path(os.environ.get("MY_PLATFORM_HANDBOOK", default))
    if not folder.is_dir():
        pytest.skip(f"the Handbook's data is not at {folder}; set MY_PLATFORM_HANDBOOK to its folder")
    days = [folder / f"{T0 + timedelta(days=number)}.parquet" for number in range(-14, 7)]
    raw = pl.read_parquet(days).lazy()
    reports = raw.select(
        "TRANSACTION_ID",
        REPORTED_AT=pl.col("TX_DATETIME") + timedelta(days=7),
        IS_FRAUD=pl.col("TX_FRAUD") == 1,
    )
    return raw.select("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT"), reports


@pytest.mark.real_data
def test_the_handbooks_training_rows_and_frauds_are_reproduced(
    handbook: tuple[pl.LazyFrame, pl.LazyFrame],
) -> None:
    frame = protocol.training_rows(*handbook, T0, window_days=7).collect()
    assert (frame.height, frame["IS_FRAUD"].sum()) == (67_240, 598)


@pytest.mark.real_data
def test_the_handbooks_test_rows_and_frauds_are_reproduced(
    handbook: tuple[pl.LazyFrame, pl.LazyFrame],
) -> None:
    frame = protocol.test_rows(*handbook, T0).collect()
    assert (frame.height, frame["IS_FRAUD"].sum()) == (58_264, 385)


def test_training_rows_are_those_of_the_window_that_ends_a_week_before_t0() -> None:
    rows = ((1, -15, 1), (2, -14, 1), (3, -8, 1), (4, -7, 1))
    assert set(in_training(rows, on_time(*rows))) == {2, 3}
    assert set(in_training(rows, on_time(*rows), window_days=8)) == {1, 2, 3}


def test_rows_come_out_whole_and_in_the_order_of_time() -> None:
    rows = ((3, -9, 1), (2, -8, 1), (1, -9, 2))
    frame = protocol.training_rows(transactions(*rows), on_time(*rows), T0, 7).collect()
    assert frame["TRANSACTION_ID"].to_list() == [1, 3, 2]
    assert frame.columns == [
        "TRANSACTION_ID",
        "TX_DATETIME",
        "CUSTOMER_ID",
        "TX_AMOUNT",
        "IS_FRAUD",
        "REPORTED_AT",
    ]


def test_a_row_without_a_report_before_t0_is_not_trained_on() -> None:
    rows = ((1, -9, 1), (2, -9, 1), (3, -9, 1))
    reports = labels((1, moment(-1, hour=23), False), (2, moment(0, hour=0), False))
    assert in_training(rows, reports) == {1: False}


def test_the_latest_report_before_t0_gives_the_training_label() -> None:
    rows = ((1, -9, 1),)
    reports = labels((1, moment(-1), True), (1, moment(-2), False), (1, moment(1), False))
    assert in_training(rows, reports) == {1: True}


def test_of_two_reports_of_one_moment_that_of_a_fraud_wins() -> None:
    reports = labels((1, moment(-1), True), (1, moment(-1), False))
    assert in_training(((1, -9, 1),), reports) == in_training(((1, -9, 1),), reports.reverse()) == {1: True}


def test_test_rows_are_those_of_the_week_with_a_label_known_two_weeks_after_t0() -> None:
    rows = ((1, -1, 1), (2, 0, 1), (3, 6, 1), (4, 7, 1), (5, 3, 1), (6, 3, 1))
    late = labels((5, moment(14), True))
    reports = pl.concat([on_time(*rows[:4]), late])
    assert in_test(rows, reports) == {2: False, 3: False}


def test_cards_with_a_fraud_in_the_training_week_leave_the_test() -> None:
    rows = ((1, -15, 1), (2, -14, 2), (3, -8, 3), (4, 0, 1), (5, 0, 2), (6, 0, 3), (7, 6, 2))
    assert set(in_test(rows, on_time(*rows, frauds={1, 2, 3}))) == {4}


def test_a_card_leaves_on_the_eighth_day_after_its_fraud() -> None:
    rows = ((1, -7, 1), (2, 0, 1), (3, 1, 1), (4, -3, 2), (5, 4, 2), (6, 5, 2))
    assert set(in_test(rows, on_time(*rows, frauds={1, 4}))) == {2, 5}


def test_a_fraud_that_was_not_reported_yet_does_not_remove_its_card() -> None:
    rows = ((1, -10, 1), (2, 0, 1), (3, 2, 1), (4, 3, 1))
    reports = pl.concat([on_time(*rows[1:]), labels((1, moment(2), True))])
    assert set(in_test(rows, reports)) == {2, 3}


def test_a_withdrawn_fraud_brings_its_card_back() -> None:
    rows = ((1, -10, 1), (2, 0, 1), (3, 2, 1))
    reports = pl.concat([on_time(*rows, frauds={1}), labels((1, moment(1), False))])
    assert set(in_test(rows, reports)) == {3}


def test_times_that_carry_the_utc_zone_give_the_same_rows() -> None:
    rows = ((1, -9, 1), (2, 0, 2))
    zoned = transactions(*rows).with_columns(pl.col("TX_DATETIME").dt.replace_time_zone("UTC"))
    reports = on_time(*rows).with_columns(pl.col("REPORTED_AT").dt.replace_time_zone("UTC"))
    assert protocol.training_rows(zoned, reports, T0, 7).collect()["TRANSACTION_ID"].to_list() == [1]
    assert protocol.test_rows(zoned, reports, T0).collect()["TRANSACTION_ID"].to_list() == [2]
