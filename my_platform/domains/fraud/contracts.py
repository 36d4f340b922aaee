"""What the landed tables of card fraud promise."""

from datetime import datetime

import pandera.polars as pa
import polars as pl

from my_platform.quality.contracts import Contract
from my_platform.quality.watch import Watch


class Transactions(pa.DataFrameModel):
    """Card transactions of one UTC day."""

    TRANSACTION_ID: int = pa.Field(unique=True, description="identifies the transaction")
    TX_DATETIME: datetime = pa.Field(description="when it happened, UTC")
    CUSTOMER_ID: int = pa.Field(ge=0, description="the card that paid")
    TERMINAL_ID: int = pa.Field(ge=0, description="the terminal that was paid at")
    TX_AMOUNT: float = pa.Field(ge=0, lt=1_000_000, description="amount in currency units")

    @pa.check("TX_AMOUNT", name="finite", error="is_finite")
    def finite(cls, data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(pl.col(data.key).is_finite())

    class Config:
        strict = True
        name = "transactions"


class FraudReports(pa.DataFrameModel):
    """Labels that became known on one UTC day."""

    TRANSACTION_ID: int = pa.Field(unique=True, description="the transaction that is reported on")
    REPORTED_AT: datetime = pa.Field(description="when the label became known, UTC")
    IS_FRAUD: bool = pa.Field(description="whether it was fraud")

    class Config:
        strict = True
        name = "fraud_reports"


class FraudScenarios(pa.DataFrameModel):
    """What kind of fraud it was, of frauds that became known on one UTC day; for people who judge models."""

    TRANSACTION_ID: int = pa.Field(unique=True, description="the fraudulent transaction")
    REPORTED_AT: datetime = pa.Field(description="when it became known, UTC")
    SCENARIO: int = pa.Field(ge=1, description="number of the kind of fraud")

    class Config:
        strict = True
        name = "fraud_scenarios"


class Customers(pa.DataFrameModel):
    """Profiles of customers."""

    CUSTOMER_ID: int = pa.Field(unique=True, ge=0, description="the card")
    X: float = pa.Field(description="place, first coordinate")
    Y: float = pa.Field(description="place, second coordinate")
    MEAN_AMOUNT: float = pa.Field(ge=0, description="mean amount of a transaction, currency units")
    STD_AMOUNT: float = pa.Field(ge=0, description="standard deviation of the amount, currency units")
    MEAN_TX_PER_DAY: float = pa.Field(ge=0, description="mean number of transactions a day")

    class Config:
        strict = True
        name = "customers"


class Terminals(pa.DataFrameModel):
    """Places of terminals."""

    TERMINAL_ID: int = pa.Field(unique=True, ge=0, description="the terminal")
    X: float = pa.Field(description="place, first coordinate")
    Y: float = pa.Field(description="place, second coordinate")

    class Config:
        strict = True
        name = "terminals"


TRANSACTIONS = Contract(
    Transactions, sort_by=("TX_DATETIME", "TRANSACTION_ID"), time="TX_DATETIME", apart="TRANSACTION_ID"
)
FRAUD_REPORTS = Contract(
    FraudReports,
    sort_by=("REPORTED_AT", "TRANSACTION_ID"),
    time="REPORTED_AT",
    at_least_rows=0,
    apart="TRANSACTION_ID",
)
FRAUD_SCENARIOS = Contract(
    FraudScenarios, sort_by=("REPORTED_AT", "TRANSACTION_ID"), time="REPORTED_AT", at_least_rows=0
)
CUSTOMERS = Contract(Customers, sort_by=("CUSTOMER_ID",))
TERMINALS = Contract(Terminals, sort_by=("TERMINAL_ID",))

# Hours after the end of a day (UTC) by which its files should have landed.
DUE_H = 6
# What is compared with the days before. Transaction numbers rise from day to day.
WATCH_TRANSACTIONS = Watch(
    keys=("TRANSACTION_ID",), columns=("TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT")
)
WATCH_FRAUD_REPORTS = Watch(keys=("TRANSACTION_ID",), columns=("REPORTED_AT",), label="IS_FRAUD")
WATCH_FRAUD_SCENARIOS = Watch(keys=("TRANSACTION_ID",), columns=("REPORTED_AT",))
WATCH_PROFILES = Watch()
