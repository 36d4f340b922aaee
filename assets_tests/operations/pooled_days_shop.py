"""The shop with a daily asset in a pool, which reads two that are in none, and one that waits for days to come."""

import polars as pl

from assets_tests.operations import shop
from assets_tests.operations.pooled_shop import POOL
from my_platform.incremental.declare import Asset, Read, same, table
from my_platform.settings import Settings


def assets(settings: Settings) -> list[Asset]:
    return [*shop.assets(settings), ahead, ticket]


@table("ahead", reads={"orders": Read("validated/orders", 100, 100)})
def ahead(orders: pl.LazyFrame) -> pl.LazyFrame:
    return orders.select(pl.len())


@table("ticket", reads={"orders": same("validated/orders"), "week": same("shop_week")}, pool=POOL)
def ticket(orders: pl.LazyFrame, week: pl.LazyFrame) -> pl.LazyFrame:
    return orders.join(week, on="SHOP_ID").select(pl.len())
