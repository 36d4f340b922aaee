"""The shop under a parameter that stands for its code, with a report that is published and a table that is never the same."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from assets_tests.operations import shop
from my_platform.incremental.declare import Asset, Grain, Publication, Read, last, same, table
from my_platform.quality.tables import raw_table, validated_table
from my_platform.settings import Settings

WINDOW = {"orders": last("validated/orders", 7, at_least=1)}


def settings(home: Path, code: int = 1) -> Settings:
    """The settings of a checkout whose code has a number."""
    return Settings(home=home, domains=("assets_tests.operations.changing_shop",), boosting_rounds=code)


def assets(settings: Settings) -> list[Asset]:
    raw = raw_table("raw/orders", shop.ORDERS, source="orders")
    valid = validated_table("validated/orders", raw, shop.ORDERS)

    @table("shop_week", reads=WINDOW, parameters={"bonus": settings.boosting_rounds})
    def shop_week(orders: pl.LazyFrame, parameters: Mapping[str, Any]) -> pl.LazyFrame:
        sums = orders.group_by("SHOP_ID").agg(pl.len(), pl.col("CENTS").sum()).sort("SHOP_ID")
        return sums.with_columns(pl.col("CENTS") + parameters["bonus"])

    def publish(publication: Publication) -> Mapping[str, Any]:
        with open(settings.home / "published.txt", "a") as file:
            file.write(f"{publication.partition} {publication.record['data_version']}\n")
        return {}

    @table("report", grain=Grain.WEEK, reads={"weeks": Read("shop_week", 0, 6)}, publish=publish)
    def report(weeks: pl.LazyFrame) -> pl.LazyFrame:
        return weeks.select(pl.col("CENTS").max())

    @table("rows", reads={"week": same("shop_week")})
    def rows(week: pl.LazyFrame) -> pl.LazyFrame:
        return week.select("SHOP_ID")

    return [raw, valid, shop_week, report, rows, noise]


@table("noise", reads={"orders": same("validated/orders")})
def noise(orders: pl.LazyFrame) -> pl.LazyFrame:
    return orders.select(pl.len()).with_columns(pl.lit(secrets.token_hex(8)).alias("NOISE"))
