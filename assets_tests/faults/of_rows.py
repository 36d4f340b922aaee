"""Rows that break a rule: a few of them, or so many that the day is refused."""

from datetime import datetime
from typing import Any

import polars as pl

from assets_tests.faults.registry import fault
from assets_tests.faults.scene import Scene
from assets_tests.faults.verdicts import Quarantine, Refusal

VALID = "validated/transactions"
NUMBER = pl.int_range(pl.len())


def some(column: str, value: Any, *rows: int) -> Any:
    """A change that sets a column of some rows to a value."""
    return lambda t: t.with_columns(
        pl.when(NUMBER.is_in(list(rows)))
        .then(pl.lit(value, t.schema[column]))
        .otherwise(pl.col(column))
        .alias(column)
    )


@fault("nulls flooded", Refusal(VALID, ("rows break the contract", "not_nullable in TX_AMOUNT: None")))
def nulls(scene: Scene) -> None:
    scene.deliver(lambda t: t.with_columns(TX_AMOUNT=pl.when(NUMBER % 2 == 0).then("TX_AMOUNT")))


@fault("a null here and there", Quarantine("not_nullable", "CUSTOMER_ID", 2))
def few_nulls(scene: Scene) -> None:
    scene.deliver(some("CUSTOMER_ID", None, 3, 8))


@fault("-1 as a sentinel for an amount", Quarantine("greater_than_or_equal_to(0)", "TX_AMOUNT", 3))
def sentinel(scene: Scene) -> None:
    scene.deliver(some("TX_AMOUNT", -1.0, 3, 8, 20))


@fault("-1 as a sentinel for a customer", Quarantine("unknown_key", "CUSTOMER_ID", 2))
def unknown_customer(scene: Scene) -> None:
    scene.deliver(some("CUSTOMER_ID", -1, 3, 8))


@fault("negative amount", Quarantine("greater_than_or_equal_to(0)", "TX_AMOUNT", 1))
def negative(scene: Scene) -> None:
    scene.deliver(some("TX_AMOUNT", -12.5, 7))


@fault("NaN amount", Quarantine("not_nullable", "TX_AMOUNT", 1))
def nan(scene: Scene) -> None:
    scene.deliver(some("TX_AMOUNT", float("nan"), 7))


@fault("infinite amount", Quarantine("less_than(1000000)", "TX_AMOUNT", 1))
def infinite(scene: Scene) -> None:
    scene.deliver(some("TX_AMOUNT", float("inf"), 7))


@fault("unknown terminal", Quarantine("unknown_key", "TERMINAL_ID", 1))
def unknown_terminal(scene: Scene) -> None:
    scene.deliver(some("TERMINAL_ID", 999_999, 7))


@fault("duplicate rows", Quarantine("repeated_row", "TRANSACTION_ID", 5))
def duplicates(scene: Scene) -> None:
    scene.deliver(lambda t: pl.concat([t, t.head(5)]))


@fault("one id for two transactions", Quarantine("field_uniqueness", "TRANSACTION_ID", 2))
def contradiction(scene: Scene) -> None:
    scene.deliver(lambda t: some("TRANSACTION_ID", t["TRANSACTION_ID"][3], 4)(t))


@fault("a row of the next day", Quarantine("outside_day", "TX_DATETIME", 1))
def next_day(scene: Scene) -> None:
    scene.deliver(lambda t: some("TX_DATETIME", datetime.fromisoformat(scene.day).replace(year=2031), 4)(t))


@fault(
    "time zone shifted by hours", Refusal(VALID, ("rows break the contract", "outside_day in TX_DATETIME"))
)
def shifted(scene: Scene) -> None:
    scene.deliver(lambda t: t.with_columns(pl.col("TX_DATETIME") + pl.duration(hours=7)))


@fault(
    "a report of no transaction",
    Quarantine("unknown_transaction", "TRANSACTION_ID", 1, asset="labelled_transactions"),
)
def report_of_nothing(scene: Scene) -> None:
    scene.deliver(some("TRANSACTION_ID", 10**9, 0), scene.table("fraud_reports"))
