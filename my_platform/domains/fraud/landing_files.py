"""How files are landed: Parquet tables by day, profiles and the calendar, each renamed into place."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from my_platform.errors import SourceError
from my_platform.storage.calendar import Calendar, calendar_path, json_date, read_calendar, read_json

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
LABEL_DELAY = timedelta(days=7)

_ROWS_PER_GROUP = 1 << 20

__all__ = ["Calendar", "SourceError", "calendar_path", "json_date", "read_calendar", "read_json"]


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


def customers_path(landing: Path) -> Path:
    """Where the customer profiles are landed."""
    return landing / "customers.parquet"


def terminals_path(landing: Path) -> Path:
    """Where the terminal profiles are landed."""
    return landing / "terminals.parquet"


def simulator_path(landing: Path) -> Path:
    """Where the simulator keeps what it has landed; only a simulated landing has it."""
    return landing / "simulator.json"


@contextmanager
def _renamed_into_place(path: Path) -> Iterator[Path]:
    """A hidden path in the same folder that becomes `path` at the end, or nothing on an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{secrets.token_hex(8)}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Land a frame as Parquet (zstd); the same rows give the same bytes."""
    with _renamed_into_place(path) as temporary:
        frame.rechunk().write_parquet(temporary, compression="zstd", row_group_size=_ROWS_PER_GROUP)


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


def write_json(value: dict[str, Any], path: Path) -> None:
    """Land a JSON object; the same value gives the same bytes."""
    with _renamed_into_place(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def extend_calendar(landing: Path, first: date, last: date | None) -> Calendar:
    """Let the calendar cover first … last too, and return what it covers now.

    The first day never moves later and the last never earlier; None, until today, is the latest of all.
    """
    present = read_calendar(landing)
    if present is not None:
        first = min(first, present.first)
        last = None if last is None or present.last is None else max(last, present.last)
    text = None if last is None else last.isoformat()
    write_json({"first": first.isoformat(), "last": text}, calendar_path(landing))
    return Calendar(first, last)
