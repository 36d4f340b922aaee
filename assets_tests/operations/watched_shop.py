"""A small domain whose tables are watched: orders by day, and the shops without partitions."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pandera.polars as pa
import polars as pl

from assets_tests.operations.dagster_shop import Shop
from my_platform.incremental.declare import Asset, Grain, same, table
from my_platform.operations.session import opened
from my_platform.quality.checks import check_table
from my_platform.quality.contracts import Contract
from my_platform.quality.page import page_linker
from my_platform.quality.profiles import profile_table
from my_platform.quality.tables import raw_table, validated_table
from my_platform.quality.watch import Watch
from my_platform.settings import Settings

FIRST = date(2025, 1, 1)
DAYS = 16
ROWS = 300
DUE_H = 6
RAW, ORDERS, PROFILES, CHECKS = "raw/orders", "validated/orders", "profiles/orders", "checks/orders"
PASSED, FAILED = "SUCCEEDED", "FAILED"


class Orders(pa.DataFrameModel):
    """Orders of one UTC day."""

    ORDER_ID: int = pa.Field(unique=True)
    ORDERED_AT: datetime
    SHOP_ID: int
    AMOUNT: float = pa.Field(ge=0)

    class Config:
        strict = True


class Shops(pa.DataFrameModel):
    """All shops."""

    SHOP_ID: int = pa.Field(unique=True)

    class Config:
        strict = True


def assets(settings: Settings) -> list[Asset]:
    contract = Contract(Orders, sort_by=("ORDERED_AT", "ORDER_ID"), time="ORDERED_AT")
    raw = raw_table(RAW, contract, source="orders", due_h=DUE_H)
    valid = validated_table(ORDERS, raw, contract)
    shops_contract = Contract(Shops, sort_by=("SHOP_ID",))
    raw_shops = raw_table("raw/shops", shops_contract, source="shops", grain=Grain.ONCE)
    shops = validated_table("validated/shops", raw_shops, shops_contract)
    watch = Watch(keys=("ORDER_ID",), columns=("SHOP_ID", "AMOUNT"))
    link = page_linker(settings.reports)
    profiles, shop_profile = profile_table(valid), profile_table(shops)
    return [
        *(raw, valid, profiles, check_table(valid, profiles, watch, publish=link)),
        *(raw_shops, shops, shop_profile, check_table(shops, shop_profile, Watch())),
        turnover,
    ]


@table("turnover", reads={"orders": same(ORDERS)})
def turnover(orders: pl.LazyFrame) -> pl.LazyFrame:
    return orders.select((pl.col("AMOUNT") * 100).round().cast(pl.Int64).sum())


def day(number: int) -> str:
    """The key of a day, counted from the first one."""
    return (FIRST + timedelta(days=number)).isoformat()


def orders(number: int) -> pl.DataFrame:
    """The orders of a day."""
    draw = random.Random(number)
    midnight = datetime.fromisoformat(day(number))
    rows = [
        (
            number * ROWS + row,
            midnight + timedelta(minutes=row),
            draw.randrange(9),
            draw.randrange(9999) / 100,
        )
        for row in range(ROWS)
    ]
    schema = ["ORDER_ID", "ORDERED_AT", "SHOP_ID", "AMOUNT"]
    return pl.DataFrame(rows, schema=schema, orient="row")


def file_of(home: Path, number: int) -> Path:
    return home / "landing" / "orders" / f"{day(number)}.parquet"


def land(home: Path, number: int, edit: Callable[[pl.DataFrame], pl.DataFrame] = lambda rows: rows) -> None:
    """Land a day, changed in some way."""
    file_of(home, number).parent.mkdir(parents=True, exist_ok=True)
    edit(orders(number)).write_parquet(file_of(home, number))


def land_all(home: Path) -> None:
    for number in range(DAYS):
        land(home, number)
    pl.DataFrame({"SHOP_ID": range(9)}).write_parquet(home / "landing" / "shops.parquet")
    # A closed data set, in which no day is late.
    calendar = f'{{"first": "{day(0)}", "last": "{day(DAYS - 1)}"}}'
    (home / "landing" / "calendar.json").write_text(calendar)


def settings(home: Path) -> Settings:
    return Settings(home=home, domains=("assets_tests.operations.watched_shop",))


@contextmanager
def opened_shop(home: Path) -> Iterator[Shop]:
    with opened(settings(home)) as session:
        yield Shop(session)


def shown(shop: Shop, asset: str = ORDERS) -> dict[str, dict[str, str]]:
    """What Dagster shows: status by check by partition, of checks that point to the latest materialization."""
    found: dict[str, dict[str, str]] = {}
    for info in shop.session.instance.event_log_storage.get_asset_check_partition_info(keys(shop, asset)):
        if info.is_current:
            status = info.latest_execution_status.value
            found.setdefault(info.partition_key or "", {})[info.check_key.name] = status
    return found


def keys(shop: Shop, *about: str) -> list[dg.AssetCheckKey]:
    """The checks about assets; about all where none is named."""
    graph = shop.session.definitions.resolve_asset_graph()
    return sorted(
        key for key in graph.asset_check_keys if not about or key.asset_key.to_user_string() in about
    )


def failed(shop: Shop) -> set[tuple[str, str]]:
    """Partition and check of what Dagster shows as failed, of the orders."""
    return {
        (partition, name)
        for asset in (RAW, ORDERS)
        for partition, found in shown(shop, asset).items()
        for name, status in found.items()
        if status == FAILED
    }


def evaluations(shop: Shop) -> int:
    """How many evaluations were ever written."""
    storage = shop.session.instance.event_log_storage
    return sum(len(storage.get_asset_check_execution_history(key, limit=10_000)) for key in keys(shop))
