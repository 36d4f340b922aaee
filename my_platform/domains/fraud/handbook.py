"""Importer of the Fraud Detection Handbook's data set: daily transactions that carry their own label.

The public set is the Handbook's `simulated-data-raw`, once its daily files are Parquet named by day.
"""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl

from my_platform.domains.fraud.landing_files import (
    LABEL_DELAY,
    TRANSACTION_SCHEMA,
    LandingSummary,
    SourceError,
    extend_calendar,
    reports_path,
    scenarios_of,
    scenarios_path,
    simulator_path,
    transaction_reports,
    transactions_path,
    write_table,
)

_LABEL, _SCENARIO = "TX_FRAUD", "TX_FRAUD_SCENARIO"
_COLUMNS = pl.Schema({**TRANSACTION_SCHEMA, _LABEL: pl.Int64()})
_NAMES = "????-??-??.parquet"


def import_handbook(
    folder: Path,
    landing: Path,
    *,
    first: date | None = None,
    through: date | None = None,
    scenarios: bool = False,
    on_day: Callable[[date], None] | None = None,
) -> LandingSummary:
    """Land the Handbook's files of the days first … through (all by default) and their labels.

    Each file of `folder`, YYYY-MM-DD.parquet, becomes the transactions of its day and the reports of seven
    days later, with `scenarios` the kinds of that day's frauds as well; what else stands in its columns is
    left out. The calendar is closed on the last report day.
    Each day is landed whole, in order, before the next is read.

    Raises SourceError, naming file, column and value, where a file is missing, unreadable, of other columns,
    holds what cannot be converted without loss or a row of another day, or where `landing` is simulated.
    """
    if simulator_path(landing).exists():
        raise SourceError(
            f"{landing} holds a simulation, expected an empty or an imported landing; "
            f"import into another home"
        )
    files = _files_by_day(folder, first, through)
    columns = pl.Schema({**_COLUMNS, _SCENARIO: pl.Int64()}) if scenarios else _COLUMNS
    rows = frauds = 0
    for day, path in files.items():
        frame = _read_day(path, day, columns).sort("TX_DATETIME", "TRANSACTION_ID")
        fraud = frame[_LABEL].cast(pl.Boolean)
        reports = transaction_reports(frame["TRANSACTION_ID"], frame["TX_DATETIME"], fraud)
        write_table(frame.select(TRANSACTION_SCHEMA.names()), transactions_path(landing, day))
        write_table(reports, reports_path(landing, day + LABEL_DELAY))
        if scenarios:
            kinds = scenarios_of(reports, frame[_SCENARIO])
            write_table(kinds, scenarios_path(landing, day + LABEL_DELAY))
        rows += frame.height
        frauds += int(fraud.sum())
        if on_day is not None:
            on_day(day)
    extend_calendar(landing, min(files), max(files) + LABEL_DELAY)
    return LandingSummary(rows, frauds, days=len(files), files=(2 + scenarios) * len(files))


def _files_by_day(folder: Path, first: date | None, through: date | None) -> dict[date, Path]:
    if not folder.is_dir():
        raise SourceError(f"{folder} is no folder; expected the one with the daily files YYYY-MM-DD.parquet")
    files: dict[date, Path] = {}
    for path in sorted(folder.glob(_NAMES)):
        try:
            day = date.fromisoformat(path.stem)
        except ValueError as error:
            raise SourceError(f"{path}: expected a file named by its day, found {path.stem!r}") from error
        if (first is None or first <= day) and (through is None or day <= through):
            files[day] = path
    if not files:
        days = f"from {first or 'the first day'} through {through or 'the last day'}"
        raise SourceError(
            f"{folder} has no file YYYY-MM-DD.parquet {days}; give the folder that holds the daily files, "
            f"or other days"
        )
    return files


def _read_day(path: Path, day: date, columns: pl.Schema) -> pl.DataFrame:
    """These columns of a raw file, each of its landed type (the label 0 or 1), all rows of `day`."""
    try:
        found = pl.read_parquet_schema(path)
        if missing := [name for name in columns if name not in found]:
            raise SourceError(
                f"{path} has no column {', '.join(missing)}, expected {', '.join(columns)}, "
                f"found {', '.join(found)}; export the file again with all columns"
            )
        raw = pl.read_parquet(path, columns=columns.names())
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{path} is no readable Parquet file ({error}); fetch it again") from error
    frame = pl.DataFrame([_converted(raw[name], dtype, path) for name, dtype in columns.items()])
    _refuse(frame[_LABEL], ~frame[_LABEL].is_in([0, 1]), path, "0 or 1")
    _refuse(frame["TX_DATETIME"], frame["TX_DATETIME"].dt.date() != day, path, f"times of {day}")
    if _SCENARIO in columns:
        genuine = frame[_SCENARIO] == 0
        _refuse(
            frame[_SCENARIO],
            (frame[_SCENARIO] < 0) | (genuine != (frame[_LABEL] == 0)),
            path,
            f"0 where {_LABEL} is 0, else the kind",
        )
    return frame


def _converted(column: pl.Series, dtype: pl.DataType, path: Path) -> pl.Series:
    """The column as `dtype`, with no value lost; times that name a zone become UTC."""
    try:
        if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is not None:
            result = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(dtype)
        elif column.dtype == pl.String and isinstance(dtype, pl.Datetime):
            result = column.str.to_datetime(time_unit="us", strict=False)
        elif isinstance(dtype, pl.Datetime) and not column.dtype.is_temporal():
            raise pl.exceptions.InvalidOperationError(f"{column.dtype} is no time")
        else:
            result = column.cast(dtype, strict=False)
        broken = result.is_null()
        if column.dtype.is_float() and dtype.is_integer():
            broken |= result.cast(column.dtype) != column
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"{path}, column {column.name}: expected {dtype}, found {error}") from error
    _refuse(column, broken, path, str(dtype))
    return result


def _refuse(column: pl.Series, broken: pl.Series, path: Path, expected: str) -> None:
    if broken.any():
        row = int(broken.arg_true()[0])
        raise SourceError(
            f"{path}, column {column.name}: expected {expected}, found {column[row]!r} in row {row} and in "
            f"{int(broken.sum()) - 1} more; correct the file and import it again"
        )
