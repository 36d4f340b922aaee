"""What a domain declares of a source that has to be asked, and the table that its answers become."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import polars as pl

from my_platform.errors import SourceError


@dataclass(frozen=True)
class DatabaseSource:
    """A table of which a query gives one UTC day.

    Attributes:
        table: the landed table.
        url_env: the environment variable that holds the SQLAlchemy URL, so that no password stands in code.
        query: SQL with the parameters ``:day`` and ``:next_day``, the first moments (UTC) of the day and of the next.
        schema: the columns that land, with their types.
        sort_by: columns by which rows are in one order, whatever order the database gives them in.
        first: the first day, fetched when nothing has landed yet.
        look_back_days: landed days that are asked for again, as they may have been corrected.
        most_rows: rows of the largest day that is taken.
        tries: how often a day is asked for while the database cannot be reached.
    """

    table: str
    url_env: str
    query: str
    schema: Mapping[str, Any]
    sort_by: Sequence[str]
    first: date
    look_back_days: int = 3
    most_rows: int = 10_000_000
    tries: int = 4


@dataclass(frozen=True)
class ApiSource:
    """A table of which an HTTP API gives one UTC day in numbered pages, each a JSON object.

    Attributes:
        table: the landed table.
        url: with ``{day}`` and ``{page}``; the first page is 1.
        rows: the field of a page that holds its rows, a list of objects. A page without rows is the last one.
        total: the field of a page that tells how many rows the day has; empty where the API does not tell.
        key: columns that no two rows share. Pages that moved while they were read are known by it.
        schema, sort_by, first, look_back_days: as those of a DatabaseSource.
        token_env: the environment variable that holds a bearer token; empty for none.
        tries: how often a page, and a day whose pages moved, are asked for.
        timeout_s: seconds in which an answer has to go on.
        most_pages, most_bytes: pages of a day and bytes of a page that are taken at most.
        most_wait_s: the longest ``Retry-After`` that is waited for.
    """

    table: str
    url: str
    rows: str
    key: Sequence[str]
    schema: Mapping[str, Any]
    sort_by: Sequence[str]
    first: date
    total: str = ""
    token_env: str = ""
    look_back_days: int = 3
    tries: int = 4
    timeout_s: float = 30
    most_pages: int = 10_000
    most_bytes: int = 64 << 20
    most_wait_s: float = 60


Source = DatabaseSource | ApiSource


def secret(source: Source, variable: str) -> str:
    """The value of an environment variable that a source needs; raises SourceError where it is not set."""
    value = os.environ.get(variable, "")
    if not value:
        raise SourceError(
            f"the source of {source.table} needs {variable}, which is not set; set it and fetch again"
        )
    return value


def as_table(source: Source, day: date, columns: Mapping[str, Sequence[Any]]) -> pl.DataFrame:
    """The rows of a day as they land: the columns of the schema, in its types and in one order.

    Times with a zone are taken to UTC, and lose it; a date in place of a time is its midnight.

    Raises:
        SourceError: a column is missing, or a value is none of its type.
    """
    missing = [name for name in source.schema if name not in columns]
    if missing:
        raise SourceError(
            f"{source.table} {day}: the source gives no column {', '.join(missing)}; it gives "
            f"{', '.join(columns) or 'none'}. Correct the query or the schema"
        )
    series = [_series(source, day, name, dtype, columns[name]) for name, dtype in source.schema.items()]
    return pl.DataFrame(series).sort(*source.sort_by, *(n for n in source.schema if n not in source.sort_by))


def _series(source: Source, day: date, name: str, dtype: Any, values: Sequence[Any]) -> pl.Series:
    dtype = pl.DataType.from_python(dtype) if isinstance(dtype, type) and not _is_polars(dtype) else dtype
    whole = dtype.is_integer()
    found = []
    for value in values:
        try:
            found.append(_plain(value, moment=dtype == pl.Datetime, day=dtype == pl.Date, whole=whole))
        except (ValueError, TypeError) as error:
            raise SourceError(
                f"{source.table} {day}: {name} is {str(value)[:80]!r}, expected {dtype}; correct it in the source, or the "
                "schema"
            ) from error
    try:
        return pl.Series(name, found, dtype=dtype, strict=True)
    except (TypeError, OverflowError, pl.exceptions.PolarsError) as error:
        raise SourceError(
            f"{source.table} {day}: {name} holds what is no {dtype}: {str(error).splitlines()[0][:200]}"
        ) from error


def _is_polars(dtype: type) -> bool:
    return issubclass(dtype, pl.DataType)


def _plain(value: Any, *, moment: bool, day: bool, whole: bool) -> Any:
    if value is None:
        return None
    if moment:
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(at, date) and not isinstance(at, datetime):
            return datetime.combine(at, time())
        if not isinstance(at, datetime):
            raise TypeError(value)
        return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at
    if day and isinstance(value, str):
        return date.fromisoformat(value)
    if isinstance(value, Decimal):
        if whole and value != int(value):
            raise ValueError(value)
        return int(value) if whole else float(value)
    return value
