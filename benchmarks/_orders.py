"""A domain of one daily table with a few rows a day, so that what is measured is what the platform does around rows."""

from datetime import date, datetime, timedelta
from pathlib import Path

import pandera.polars as pa
import polars as pl

from my_platform.incremental.declare import Asset, last, table
from my_platform.quality.contracts import Contract
from my_platform.quality.tables import raw_table, validated_table
from my_platform.settings import Settings

FIRST = date(1998, 1, 1)
ROWS = 20


class Orders(pa.DataFrameModel):
    """Orders of one UTC day."""

    ORDER_ID: int = pa.Field(unique=True)
    ORDERED_AT: datetime
    SHOP_ID: int
    CENTS: int = pa.Field(ge=0)

    class Config:
        strict = True


ORDERS = Contract(Orders, sort_by=("ORDERED_AT", "ORDER_ID"), time="ORDERED_AT")


def assets(_settings: Settings) -> list[Asset]:
    """Orders as they landed, those that keep the contract, and sums over a week."""
    raw = raw_table("raw/orders", ORDERS, source="orders")
    return [raw, validated_table("validated/orders", raw, ORDERS), shop_week]


@table("shop_week", reads={"orders": last("validated/orders", 7, at_least=1)})
def shop_week(orders: pl.LazyFrame) -> pl.LazyFrame:
    """Orders and their value by shop, over seven days."""
    return orders.group_by("SHOP_ID").agg(pl.len(), pl.col("CENTS").sum()).sort("SHOP_ID")


def land(landing: Path, first: int, days: int) -> None:
    """Land days, counted from FIRST on."""
    folder = landing / "orders"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + days):
        day = FIRST + timedelta(days=number)
        noon = datetime(day.year, day.month, day.day, 12)
        pl.DataFrame(
            {
                "ORDER_ID": [number * ROWS + row for row in range(ROWS)],
                "ORDERED_AT": [noon + timedelta(minutes=row) for row in range(ROWS)],
                "SHOP_ID": [row % 4 for row in range(ROWS)],
                "CENTS": [100 + row + number % 7 for row in range(ROWS)],
            },
            schema_overrides={"ORDERED_AT": pl.Datetime("us")},
        ).write_parquet(folder / f"{day}.parquet")
