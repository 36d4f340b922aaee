"""The small domain on my_platform. The benchmark copies this file, edits the copy and runs it."""

from datetime import date

import pandera.polars as pa
import polars as pl

from my_platform.incremental.declare import Asset, Grain, last, table
from my_platform.quality.contracts import Contract
from my_platform.quality.tables import raw_table
from my_platform.settings import Settings


class Transactions(pa.DataFrameModel):
    """Transactions of one day."""

    day: date
    tx_id: int = pa.Field(unique=True)
    customer_id: int = pa.Field(ge=0)
    amount_cents: int = pa.Field(ge=0)


transactions = raw_table("transactions", Contract(Transactions, sort_by=("tx_id",)), source="transactions")


@table("spending", grain=Grain.DAY, reads={"transactions": last("transactions", 30)})
def spending(transactions: pl.LazyFrame) -> pl.LazyFrame:
    """What each customer spent in the last 30 days."""
    return (
        transactions.group_by("customer_id")
        .agg(pl.col("amount_cents").sum().alias("cents_30d"), pl.len().cast(pl.Int64).alias("n_30d"))
        .sort("customer_id")
    )


@table("model", grain=Grain.DAY, reads={"spending": last("spending", 120)})
def model(spending: pl.LazyFrame) -> pl.LazyFrame:
    """The stand-in for a model that is fitted on the last 120 days of the feature."""
    return (
        spending.group_by("customer_id")
        .agg(pl.col("cents_30d").sum().alias("cents_120d"), pl.len().cast(pl.Int64).alias("days_120d"))
        .sort("customer_id")
    )


def assets(settings: Settings) -> list[Asset]:
    """What the platform runs."""
    return [transactions, spending, model]
