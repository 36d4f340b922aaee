"""SQL of views over Parquet files, one file a day."""

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from my_platform.marts.errors import MartError

WHOLE = ""
"""The key of the one file of a table that is not cut into days."""


def select_file(path: Path, day: str, columns: Mapping[str, str] | None, day_column: str) -> str:
    """One file as a SELECT, with its day added.

    Args:
        path: the Parquet file.
        day: its day, or ``WHOLE`` for a file without one.
        columns: types to cast to, in order; None takes the file's own columns as they are.
        day_column: name of the column that holds the day; one in the file is replaced.
    """
    if columns is None:
        shown = f"COLUMNS(name -> name <> {literal(day_column)})"
        listed = [f"{_day(day)} AS {identifier(day_column)}", shown] if day else ["*"]
    else:
        listed = [
            f"{_day(day)} AS {identifier(name)}"
            if name == day_column
            else f"CAST({identifier(name)} AS {kind}) AS {identifier(name)}"
            for name, kind in columns.items()
        ]
    return f"SELECT {', '.join(listed)} FROM read_parquet({literal(escape_glob(str(path)))})"


def select_nothing(columns: Mapping[str, str]) -> str:
    """A SELECT of no rows with typed columns."""
    listed = (f"CAST(NULL AS {kind}) AS {identifier(name)}" for name, kind in columns.items())
    return f"SELECT {', '.join(listed)} WHERE false"


def checked_day(day: str) -> str:
    """A partition key that is a calendar day, as it was given.

    Raises:
        MartError: it is not ``YYYY-MM-DD``.
    """
    try:
        if date.fromisoformat(day).isoformat() == day:
            return day
    except ValueError:
        pass
    raise MartError(f"{day!r} is not a day; partitions of marts and their inputs are named like 2018-04-01")


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def escape_glob(path: str) -> str:
    """The path as ``read_parquet`` takes it: unescaped, a folder named ``[1]`` would match a folder ``1``."""
    return re.sub(r"([\[*?])", r"[\1]", path)


def _day(day: str) -> str:
    return f"DATE {literal(checked_day(day))}"
