"""The domain of the home that version 0.1.0 made: three days of orders and what is sold in a shop."""

from datetime import datetime

import pandera.polars as pa
import polars as pl

from my_platform.incremental.declare import Asset, last, table
from my_platform.quality.contracts import Contract
from my_platform.quality.tables import raw_table, validated_table
from my_platform.settings import Settings


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
    raw = raw_table("raw/orders", ORDERS, source="orders")
    return [raw, validated_table("validated/orders", raw, ORDERS), shop_week]


@table("shop_week", reads={"orders": last("validated/orders", 7, at_least=1)})
def shop_week(orders: pl.LazyFrame) -> pl.LazyFrame:
    return orders.group_by("SHOP_ID").agg(pl.len(), pl.col("CENTS").sum()).sort("SHOP_ID")
