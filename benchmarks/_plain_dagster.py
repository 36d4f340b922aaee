"""The daily assets as plain Dagster assets: the same functions on plain Parquet files, one file a partition.

Loaded by Dagster for the backfill that `benchmarks/incremental.py` measures. PLAIN_LANDING and PLAIN_TABLES are
folders, PLAIN_EXECUTOR is `default` (a process for each step) or `in_process`.
"""

import os
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl

from my_platform.domains.fraud import contracts, labels
from my_platform.domains.fraud.features import TO_PAST_AVG, customer_spending, terminal_risk, usual_spending
from my_platform.features import offline
from my_platform.features.declaration import FeatureSet
from my_platform.quality.contracts import Contract

LANDING = Path(os.environ.get("PLAIN_LANDING", "landing"))
TABLES = Path(os.environ.get("PLAIN_TABLES", "tables"))
EXECUTOR = os.environ.get("PLAIN_EXECUTOR", "default")
LABELS = list(labels.labelled_transactions.columns)

days = dg.DailyPartitionsDefinition("2018-04-01", end_date="2018-10-01")


def window(first: int) -> dg.TimeWindowPartitionMapping:
    return dg.TimeWindowPartitionMapping(start_offset=first, allow_nonexistent_upstream_partitions=True)


def read(name: str, day: str, first: int = 0) -> pl.DataFrame:
    """The partitions of a window that are there."""
    start = date.fromisoformat(day)
    paths = [TABLES / name / f"{start + timedelta(days=offset)}.parquet" for offset in range(first, 1)]
    return pl.concat([pl.read_parquet(path) for path in paths if path.exists()])


def write(name: str, day: str, table: pl.DataFrame) -> None:
    path = TABLES / name / f"{day}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.write_parquet(path, compression="zstd", compression_level=1)


def validated(name: str, contract: Contract) -> dg.AssetsDefinition:
    @dg.asset(key=["validated", name], partitions_def=days, deps=[dg.AssetKey(["raw", name])])
    def check(context: dg.AssetExecutionContext) -> None:
        """The rows that keep the contract, sorted."""
        table = contract.model.validate(read(f"raw/{name}", context.partition_key), lazy=True)
        write(f"validated/{name}", context.partition_key, table.sort(contract.sort_by))

    return check


def raw(name: str) -> dg.AssetsDefinition:
    @dg.asset(key=["raw", name], partitions_def=days)
    def take(context: dg.AssetExecutionContext) -> None:
        """What landed."""
        write(
            f"raw/{name}",
            context.partition_key,
            pl.read_parquet(LANDING / name / f"{context.partition_key}.parquet"),
        )

    return take


TRANSACTIONS, REPORTS = (
    dg.AssetKey(["validated", "transactions"]),
    dg.AssetKey(["validated", "fraud_reports"]),
)


@dg.asset(
    partitions_def=days,
    deps=[
        REPORTS,
        dg.AssetDep(TRANSACTIONS, partition_mapping=window(-labels.OLDEST_REPORTED_DAYS)),
        dg.AssetDep(dg.AssetKey("customer_spending"), partition_mapping=window(-labels.OLDEST_REPORTED_DAYS)),
    ],
)
def labelled_transactions(context: dg.AssetExecutionContext) -> None:
    """One row for each report of the day, with its transaction."""
    transactions = read("validated/transactions", context.partition_key, -labels.OLDEST_REPORTED_DAYS)
    reports = read("validated/fraud_reports", context.partition_key)
    spending = read("customer_spending", context.partition_key, -labels.OLDEST_REPORTED_DAYS)
    known = (
        reports.join(transactions, on="TRANSACTION_ID", how="inner")
        .join(spending.select("TRANSACTION_ID", TO_PAST_AVG), on="TRANSACTION_ID", how="left")
        .select(LABELS)
    )
    write("labelled_transactions", context.partition_key, known.sort("REPORTED_AT", "TRANSACTION_ID"))


def features(
    feature_set: FeatureSet, events: str, table: str = "validated/transactions"
) -> dg.AssetsDefinition:
    first = feature_set.reads().first

    @dg.asset(
        name=feature_set.name,
        partitions_def=days,
        deps=[dg.AssetDep(dg.AssetKey(events.split("/")), partition_mapping=window(first))],
    )
    def compute(context: dg.AssetExecutionContext) -> None:
        """The features of a day."""
        rows = read(table, context.partition_key)
        made = offline.compute(feature_set, rows, read(events, context.partition_key, first))
        write(feature_set.name, context.partition_key, made)

    return compute


defs = dg.Definitions(
    assets=[
        raw("transactions"),
        raw("fraud_reports"),
        validated("transactions", contracts.TRANSACTIONS),
        validated("fraud_reports", contracts.FRAUD_REPORTS),
        labelled_transactions,
        features(customer_spending, "validated/transactions"),
        features(usual_spending, "customer_spending", "customer_spending"),
        features(terminal_risk, "labelled_transactions"),
    ],
    jobs=[dg.define_asset_job("daily", partitions_def=days)],
    executor=dg.in_process_executor if EXECUTOR == "in_process" else None,
)
