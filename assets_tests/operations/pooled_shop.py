"""The shop with a weekly asset in a pool, between two of its week that are in none."""

import polars as pl

from assets_tests.operations import shop
from my_platform.incremental.declare import Asset, Grain, same, table
from my_platform.settings import Settings

POOL = "printer"


def assets(settings: Settings) -> list[Asset]:
    return [*shop.assets(settings), printed, bound]


@table("printed", grain=Grain.WEEK, reads={"report": same("report")}, pool=POOL)
def printed(report: pl.LazyFrame) -> pl.LazyFrame:
    return report.with_columns(PAGES=pl.col("CENTS") % 7)


@table("bound", grain=Grain.WEEK, reads={"report": same("report"), "printed": same("printed")})
def bound(report: pl.LazyFrame, printed: pl.LazyFrame) -> pl.LazyFrame:
    return report.join(printed, on="CENTS").with_columns(pl.col("PAGES") + 1)
