"""Where the tables of this domain are landed, and what they look like there."""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from my_platform.errors import SourceError
from my_platform.storage.calendar import Calendar, calendar_path, json_date, read_calendar, read_json
from my_platform.storage.landing_files import extend_calendar, write_json, write_table

TRANSACTION_SCHEMA = pl.Schema(
    {
        "TRANSACTION_ID": pl.Int64(),
        "TX_DATETIME": pl.Datetime("us"),
        "CUSTOMER_ID": pl.Int64(),
        "TERMINAL_ID": pl.Int64(),
        "TX_AMOUNT": pl.Float64(),
    }
)
REPORT_SCHEMA = pl.Schema(
    {"TRANSACTION_ID": pl.Int64(), "REPORTED_AT": pl.Datetime("us"), "IS_FRAUD": pl.Boolean()}
)
SCENARIO_SCHEMA = pl.Schema(
    {"TRANSACTION_ID": pl.Int64(), "REPORTED_AT": pl.Datetime("us"), "SCENARIO": pl.Int64()}
)
LABEL_DELAY = timedelta(days=7)

__all__ = [
    "Calendar",
    "SourceError",
    "calendar_path",
    "extend_calendar",
    "json_date",
    "read_calendar",
    "read_json",
    "write_json",
    "write_table",
]


@dataclass(frozen=True)
class LandingSummary:
    """What one landing wrote: transactions, the frauds among them, transaction days, Parquet files."""

    rows: int
    frauds: int
    days: int
    files: int


def transactions_path(landing: Path, day: date) -> Path:
    """Where the transactions that happened on a UTC day are landed."""
    return landing / "transactions" / f"{day.isoformat()}.parquet"


def reports_path(landing: Path, day: date) -> Path:
    """Where the labels that became known on a UTC day are landed."""
    return landing / "fraud_reports" / f"{day.isoformat()}.parquet"


def scenarios_path(landing: Path, day: date) -> Path:
    """Where the kinds of the frauds that became known on a UTC day are landed, if they are."""
    return landing / "fraud_scenarios" / f"{day.isoformat()}.parquet"


def customers_path(landing: Path) -> Path:
    """Where the customer profiles are landed."""
    return landing / "customers.parquet"


def terminals_path(landing: Path) -> Path:
    """Where the terminal profiles are landed."""
    return landing / "terminals.parquet"


def simulator_path(landing: Path) -> Path:
    """Where the simulator keeps what it has landed; only a simulated landing has it."""
    return landing / "simulator.json"


def read_table(path: Path, schema: pl.Schema) -> pl.DataFrame:
    """Read a landed Parquet file that must have exactly the columns and types of `schema`.

    Raises SourceError where the file is missing, broken or of other columns.
    """
    if not path.is_file():
        raise SourceError(f"{path} is not landed; land that day first or choose a landed one")
    try:
        frame = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{path} is no readable Parquet file ({error}); land it again") from error
    if frame.schema != schema:
        raise SourceError(f"{path} has the columns {frame.schema}, expected {schema}; land it again")
    return frame


def transaction_reports(transaction_ids: pl.Series, times: pl.Series, frauds: pl.Series) -> pl.DataFrame:
    """The label of each transaction (REPORT_SCHEMA), known LABEL_DELAY after the transaction."""
    frame = pl.DataFrame({"TRANSACTION_ID": transaction_ids, "REPORTED_AT": times, "IS_FRAUD": frauds})
    return frame.with_columns(pl.col("REPORTED_AT") + LABEL_DELAY)


def scenarios_of(reports: pl.DataFrame, scenarios: pl.Series) -> pl.DataFrame:
    """The kinds of the frauds among the rows of `transaction_reports` (SCENARIO_SCHEMA); 0 is none."""
    found = reports.select("TRANSACTION_ID", "REPORTED_AT", SCENARIO=scenarios.cast(pl.Int64))
    return found.filter(pl.col("SCENARIO") > 0)
