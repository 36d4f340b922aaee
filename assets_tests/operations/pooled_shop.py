"""The shop with assets in a pool: a weekly one between two of its week that are in none, and a daily one at the end."""

import polars as pl

from assets_tests.operations import shop
from my_platform.incremental.declare import Asset, Grain, Read, same, table
from my_platform.settings import Settings

POOL = "printer"


def assets(settings: Settings) -> list[Asset]:
    return [*shop.assets(settings), printed, bound, ahead, ticket]


@table("printed", grain=Grain.WEEK, reads={"report": same("report")}, pool=POOL)
def printed(report: pl.LazyFrame) -> pl.LazyFrame:
    return report.with_columns(PAGES=pl.col("CENTS") % 7)


@table("bound", grain=Grain.WEEK, reads={"report": same("report"), "printed": same("printed")})
def bound(report: pl.LazyFrame, printed: pl.LazyFrame) -> pl.LazyFrame:
    return report.join(printed, on="CENTS").with_columns(pl.col("PAGES") + 1)


@table("ahead", reads={"orders": Read("validated/orders", 100, 100)})
def ahead(orders: pl.LazyFrame) -> pl.LazyFrame:
    return orders.select(pl.len())


@table("ticket", reads={"orders": same("validated/orders"), "week": same("shop_week")}, pool=POOL)
def ticket(orders: pl.LazyFrame, week: pl.LazyFrame) -> pl.LazyFrame:
    return orders.join(week, on="SHOP_ID").select(pl.len())
