"""A domain of one daily table with a few rows a day, so that what is measured is what the platform does around rows."""

from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from assets_tests.operations.shop import ORDERS, shop_week
from my_platform.incremental.declare import Asset
from my_platform.quality.tables import raw_table, validated_table
from my_platform.settings import Settings
from my_platform.storage.landing_files import extend_calendar

FIRST = date(1998, 1, 1)
ROWS = 20


def assets(_settings: Settings) -> list[Asset]:
    """Orders as they landed, those that keep the contract, and sums over a week."""
    raw = raw_table("raw/orders", ORDERS, source="orders")
    return [raw, validated_table("validated/orders", raw, ORDERS), shop_week]


def land(landing: Path, first: int, days: int) -> None:
    """Land days, counted from FIRST on, as a data set that ends with them."""
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
    extend_calendar(landing, FIRST, FIRST + timedelta(days=first + days - 1))
