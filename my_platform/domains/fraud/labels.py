"""Reports joined with the transactions that they are about."""

import polars as pl

from my_platform.domains.fraud.features import TO_PAST_AVG
from my_platform.incremental.bucketed import Apart
from my_platform.incremental.declare import Column, Produced, last, same, table

# A report on an older transaction than this finds no partner and is quarantined.
OLDEST_REPORTED_DAYS = 30


@table(
    "labelled_transactions",
    reads={
        "reports": same("validated/fraud_reports"),
        "transactions": last("validated/transactions", OLDEST_REPORTED_DAYS + 1),
        "spending": last(
            "customer_spending", OLDEST_REPORTED_DAYS + 1, columns=("TRANSACTION_ID", TO_PAST_AVG)
        ),
    },
    apart=Apart(
        dict.fromkeys(("reports", "transactions", "spending"), "TRANSACTION_ID"),
        ("REPORTED_AT", "TRANSACTION_ID"),
    ),
    group="features",
    kinds=("polars",),
    columns={
        "TRANSACTION_ID": Column(pl.Int64(), "the transaction that is reported on"),
        "TX_DATETIME": Column(pl.Datetime("us"), "when it happened, UTC"),
        "CUSTOMER_ID": Column(pl.Int64(), "the card that paid"),
        "TERMINAL_ID": Column(pl.Int64(), "the terminal that was paid at"),
        "TX_AMOUNT": Column(pl.Float64(), "amount in currency units"),
        TO_PAST_AVG: Column(pl.Float64(), "amount ÷ mean amount of its card in the 30 days before"),
        "REPORTED_AT": Column(pl.Datetime("us"), "when the label became known, UTC"),
        "IS_FRAUD": Column(pl.Boolean(), "whether it was fraud"),
    },
    lineage={
        **{
            name: (("validated/fraud_reports", name),)
            for name in ("TRANSACTION_ID", "REPORTED_AT", "IS_FRAUD")
        },
        **{
            name: (("validated/transactions", name),)
            for name in ("TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT")
        },
        TO_PAST_AVG: (("customer_spending", TO_PAST_AVG),),
    },
)
def labelled_transactions(
    reports: pl.LazyFrame, transactions: pl.LazyFrame, spending: pl.LazyFrame
) -> Produced:
    """One row for each report of the day, with its transaction; reports without one go to quarantine."""
    known = (
        reports.join(transactions, on="TRANSACTION_ID", how="left")
        .join(spending, on="TRANSACTION_ID", how="left")
        .collect()
    )
    matched = known.filter(pl.col("TX_DATETIME").is_not_null())
    unmatched = (
        known.filter(pl.col("TX_DATETIME").is_null())
        .select(
            "TRANSACTION_ID",
            "REPORTED_AT",
            "IS_FRAUD",
            rule=pl.lit("unknown_transaction"),
            reason=pl.format("no transaction {} in the 31 days up to the report", "TRANSACTION_ID"),
            column=pl.lit("TRANSACTION_ID"),
            value=pl.col("TRANSACTION_ID").cast(pl.String),
        )
        .sort("REPORTED_AT", "TRANSACTION_ID")
    )
    rows = matched.select(
        "TRANSACTION_ID",
        "TX_DATETIME",
        "CUSTOMER_ID",
        "TERMINAL_ID",
        "TX_AMOUNT",
        TO_PAST_AVG,
        "REPORTED_AT",
        "IS_FRAUD",
    ).sort("REPORTED_AT", "TRANSACTION_ID")
    return Produced(rows, unmatched, {"landed_rows": known.height, "quarantined_rows": unmatched.height})
