"""How a source of the platform's own lands files: Parquet tables, JSON and the calendar, each renamed into place."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from my_platform.storage.calendar import Calendar, calendar_path, read_calendar

_ROWS_PER_GROUP = 1 << 20


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
