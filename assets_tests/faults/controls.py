"""What looks unusual and is well."""

import os
import shutil
import time

import polars as pl

from assets_tests.faults.registry import control
from assets_tests.faults.scene import DAY_WITHOUT_AN_HOUR, Scene
from my_platform.domains.fraud.simulator import append_days


@control("the same file again")
def again(scene: Scene) -> None:
    data = scene.transactions.read_bytes()
    scene.transactions.unlink()
    scene.transactions.write_bytes(data)


@control("rows in another order")
def shuffled(scene: Scene) -> None:
    scene.deliver(lambda t: t.sample(fraction=1, shuffle=True, seed=1))


@control("columns in another order")
def reordered(scene: Scene) -> None:
    scene.deliver(lambda t: t.select(reversed(t.columns)))


@control("CSV instead of Parquet")
def as_csv(scene: Scene) -> None:
    pl.read_parquet(scene.transactions).write_csv(scene.transactions.with_suffix(".csv"))
    scene.transactions.unlink()


@control("another compression, times in milliseconds marked as UTC")
def written_otherwise(scene: Scene) -> None:
    table = pl.read_parquet(scene.transactions)
    times = pl.col("TX_DATETIME").dt.cast_time_unit("ms").dt.replace_time_zone("UTC")
    table.with_columns(times).write_parquet(scene.transactions, compression="snappy", row_group_size=7)


@control("a day without an hour, on a machine in Berlin")
def summer_time(scene: Scene) -> None:
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    path = scene.table("transactions", DAY_WITHOUT_AN_HOUR)
    scene.deliver(lambda t: t.with_columns(TX_AMOUNT=pl.col("TX_AMOUNT") + 1), path)


@control("one more day")
def one_more(scene: Scene) -> None:
    append_days(scene.landing, 1)


@control("a corrected day")
def corrected(scene: Scene) -> None:
    scene.deliver(lambda t: t.with_columns(TX_AMOUNT=pl.col("TX_AMOUNT") + 0.01))


@control("a new customer, and a changed profile")
def new_customer(scene: Scene) -> None:
    path = scene.landing / "customers.parquet"
    scene.deliver(
        lambda t: pl.concat(
            [t.with_columns(pl.col("X") + 1), t.tail(1).with_columns(pl.col("CUSTOMER_ID") + 1)]
        ),
        path,
    )


@control("notes and unfinished uploads beside the files")
def beside(scene: Scene) -> None:
    shutil.copy(scene.transactions, scene.transactions.with_name(f".{scene.day}.parquet.tmp-1"))
    for name in ("README.md", f"{scene.day}.parquet.part", f"{scene.day}.parquet.tmp", "_SUCCESS"):
        (scene.landing / "transactions" / name).write_bytes(b"PAR1")
