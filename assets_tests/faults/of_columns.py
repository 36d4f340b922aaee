"""Columns that are not those of the contract."""

import polars as pl

from assets_tests.faults.registry import fault
from assets_tests.faults.scene import Scene
from assets_tests.faults.verdicts import Refusal

RAW = "raw/transactions"


@fault("column dropped", Refusal(RAW, ("column TX_AMOUNT is missing",)))
def dropped(scene: Scene) -> None:
    scene.deliver(lambda t: t.drop("TX_AMOUNT"))


@fault("column added", Refusal(RAW, ("column CHANNEL is not in the contract",)))
def added(scene: Scene) -> None:
    scene.deliver(lambda t: t.with_columns(CHANNEL=pl.lit("web")))


@fault("column renamed", Refusal(RAW, ("column TX_AMOUNT is missing", "AMOUNT looks like TX_AMOUNT renamed")))
def renamed(scene: Scene) -> None:
    scene.deliver(lambda t: t.rename({"TX_AMOUNT": "AMOUNT"}))


@fault("column retyped", Refusal(RAW, ("column TX_AMOUNT is Float32, expected Float64",)))
def retyped(scene: Scene) -> None:
    scene.deliver(lambda t: t.cast({"TX_AMOUNT": pl.Float32}))


@fault("customer id of the wrong type", Refusal(RAW, ("column CUSTOMER_ID is String, expected Int64",)))
def id_as_text(scene: Scene) -> None:
    scene.deliver(lambda t: t.cast({"CUSTOMER_ID": pl.String}))


@fault("local times with their zone", Refusal(RAW, ("column TX_DATETIME is Datetime", "Europe/Berlin")))
def zoned(scene: Scene) -> None:
    scene.deliver(
        lambda t: t.with_columns(
            pl.col("TX_DATETIME").dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin")
        )
    )


@fault("times as numbers", Refusal(RAW, ("column TX_DATETIME is Int64",)))
def numbers(scene: Scene) -> None:
    scene.deliver(lambda t: t.with_columns(pl.col("TX_DATETIME").dt.epoch("ms")))


@fault(
    "two columns of one type swapped",
    Refusal("validated/transactions", ("rows break the contract", "unknown_key", "CUSTOMER_ID")),
)
def swapped(scene: Scene) -> None:
    scene.deliver(
        lambda t: t.rename({"CUSTOMER_ID": "TERMINAL_ID", "TERMINAL_ID": "CUSTOMER_ID"}).select(t.columns)
    )
