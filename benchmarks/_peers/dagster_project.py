"""The small domain on plain Dagster. The benchmark copies this file, edits the copy and loads it.

Content hashes are reported as data versions, for landed files and for computed tables, so that Dagster can see
where nothing has changed. The code version of an asset is typed by hand, as its documentation has it.
"""

import hashlib
import os
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl

HOME = Path(os.environ["PEERS_HOME"])
LANDING = HOME / "landing" / "transactions"
TABLES = HOME / "tables"
CONDITIONS = {
    "none": None,
    "eager": dg.AutomationCondition.eager(),
    "eager for all": dg.AutomationCondition.eager()
    .without(dg.AutomationCondition.in_latest_time_window())
    .replace(
        "any_deps_updated",
        dg.AutomationCondition.any_deps_updated() | dg.AutomationCondition.code_version_changed(),
    ),
}
SPENDING_CODE = "1"

days = dg.DailyPartitionsDefinition(os.environ["PEERS_FIRST_DAY"], end_offset=0)
condition = CONDITIONS[os.environ["PEERS_CONDITION"]]


@dg.observable_source_asset(partitions_def=days)
def landed() -> dg.DataVersionsByPartition:
    """The landed files, by the hash of their bytes."""
    return dg.DataVersionsByPartition(
        {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(LANDING.iterdir())}
    )


def window(first: int) -> dg.TimeWindowPartitionMapping:
    """The day itself and the ones before it, as far as there are any."""
    return dg.TimeWindowPartitionMapping(start_offset=first, allow_nonexistent_upstream_partitions=True)


def store(name: str, day: str, table: pl.DataFrame) -> dg.MaterializeResult:
    """Write a partition; its data version is a hash of its rows."""
    path = TABLES / name / f"{day}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.write_parquet(path)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(hashlib.sha256(table.write_csv().encode()).hexdigest())
    )


def read(name: str, day: str, back: int) -> pl.LazyFrame:
    """The partitions of a window that are there."""
    return pl.concat(list(_tables(name, day, back))).lazy()


def _tables(name: str, day: str, back: int) -> Iterator[pl.DataFrame]:
    for offset in range(back):
        path = TABLES / name / f"{date.fromisoformat(day) - timedelta(days=offset)}.parquet"
        if path.exists():
            yield pl.read_parquet(path)


@dg.asset(partitions_def=days, deps=[landed], code_version="1", automation_condition=condition)
def transactions(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """What landed."""
    day = context.partition_key
    return store("transactions", day, pl.read_parquet(LANDING / f"{day}.parquet").sort("tx_id"))


@dg.asset(
    partitions_def=days,
    deps=[dg.AssetDep(transactions, partition_mapping=window(-29))],
    code_version=SPENDING_CODE,
    automation_condition=condition,
)
def spending(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """What each customer spent in the last 30 days."""
    table = (
        read("transactions", context.partition_key, 30)
        .group_by("customer_id")
        .agg(pl.col("amount_cents").sum().alias("cents_30d"), pl.len().cast(pl.Int64).alias("n_30d"))
        .sort("customer_id")
    )
    return store("spending", context.partition_key, table.collect())


@dg.asset(
    partitions_def=days,
    deps=[dg.AssetDep(spending, partition_mapping=window(-119))],
    code_version="1",
    automation_condition=condition,
)
def model(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """The stand-in for a model that is fitted on the last 120 days of the feature."""
    table = (
        read("spending", context.partition_key, 120)
        .group_by("customer_id")
        .agg(pl.col("cents_30d").sum().alias("cents_120d"), pl.len().cast(pl.Int64).alias("days_120d"))
        .sort("customer_id")
    )
    return store("model", context.partition_key, table.collect())


defs = dg.Definitions(
    assets=[landed, transactions, spending, model],
    jobs=[dg.define_asset_job("observe", selection=[landed])],
)
