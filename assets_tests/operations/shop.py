"""A small domain for tests: orders, their sums over seven days, and a weekly report that is published."""

from datetime import date, datetime, timedelta
from pathlib import Path

import pandera.polars as pa
import polars as pl

from my_platform.incremental.declare import Asset, Grain, Read, last, same, table
from my_platform.quality.contracts import Contract
from my_platform.quality.tables import raw_table, validated_table
from my_platform.settings import Settings

FIRST = date(2026, 1, 7)


class Orders(pa.DataFrameModel):
    """Orders of one UTC day."""

    ORDER_ID: int = pa.Field(unique=True)
    ORDERED_AT: datetime
    SHOP_ID: int
    CENTS: int = pa.Field(ge=0)

    class Config:
        strict = True


ORDERS = Contract(Orders, sort_by=("ORDERED_AT", "ORDER_ID"), time="ORDERED_AT")


def settings(home: Path, **more: object) -> Settings:
    return Settings(**{"home": home, "domains": ("assets_tests.operations.shop",), **more})  # type: ignore[arg-type]


def assets(_settings: Settings) -> list[Asset]:
    raw = raw_table("raw/orders", ORDERS, source="orders")
    return [raw, validated_table("validated/orders", raw, ORDERS), shop_week, report]


@table("shop_week", reads={"orders": last("validated/orders", 7, at_least=1)})
def shop_week(orders: pl.LazyFrame) -> pl.LazyFrame:
    return orders.group_by("SHOP_ID").agg(pl.len(), pl.col("CENTS").sum()).sort("SHOP_ID")


@table(
    "report",
    grain=Grain.WEEK,
    reads={"weeks": Read("shop_week", 0, 6), "before": same("shop_week")},
    publish=lambda publication: {},
)
def report(weeks: pl.LazyFrame, before: pl.LazyFrame) -> pl.LazyFrame:
    return weeks.select(pl.col("CENTS").max())


def file_of(day: date, *, extra_cents: int = 0) -> bytes:
    """A day's CSV file of four orders in two shops."""
    number = (day - FIRST).days * 4
    rows = [
        f"{number + i},{day} {10 + i}:00:00,{i % 2},{100 * (i + 1) + number + (extra_cents if i == 0 else 0)}"
        for i in range(4)
    ]
    return ("ORDER_ID,ORDERED_AT,SHOP_ID,CENTS\n" + "\n".join(rows) + "\n").encode()


def land(home: Path, day: date, *, extra_cents: int = 0) -> Path:
    path = home / "landing" / "orders" / f"{day}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file_of(day, extra_cents=extra_cents))
    return path


def land_days(home: Path, days: int) -> None:
    for number in range(days):
        land(home, FIRST + timedelta(days=number))
