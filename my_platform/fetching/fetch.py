"""Fetching: the days that a source owes are asked for and landed, each as one file, whole or not at all."""

import io
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from typing import Any

import polars as pl

from my_platform.errors import PlatformError, SourceError
from my_platform.fetching import api, database
from my_platform.fetching.declaration import DatabaseSource, Source
from my_platform.incremental.content import data_version
from my_platform.incremental.declare import Grain, day_key
from my_platform.storage.landing import key_of
from my_platform.storage.places import LandingPlace

logger = logging.getLogger("my_platform.fetching")


@dataclass
class Fetched:
    """What became of the days of a table.

    Attributes:
        landed, corrected: rows by day that landed for the first time, or landed again with other rows.
        unchanged: days whose rows are those that landed before.
        empty: days of which the source has no rows; nothing landed.
        failed: why the last day that was asked for was not had; those after it were not asked for.
        more: whether days are left for the next call.
    """

    landed: dict[str, int] = field(default_factory=dict)
    corrected: dict[str, int] = field(default_factory=dict)
    unchanged: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    failed: str = ""
    more: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def fetch(
    source: Source,
    place: LandingPlace,
    *,
    today: date,
    first: date | None = None,
    through: date | None = None,
    until_s: float = float("inf"),
    sleep: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Land what a source has of the days that are over and owed: those after the last landed one, and its look-back.

    A day whose rows are as they landed is not written again, and so causes nothing.

    Args:
        today: the present day in UTC, which is not over.
        first, through: the days, where others are meant.
        until_s: by ``time.monotonic``, when no further day is begun.
    """
    done = Fetched()
    for day in days_owed(source, place, today, first, through):
        if time.monotonic() > until_s:
            done.more = True
            return done
        try:
            _land(source, place, day, done, sleep)
        except PlatformError as error:
            done.failed = str(error)
            return done
        except Exception as error:
            # A driver's own: it ends this source's fetch, and not that of the others. What it says may hold a password.
            logger.exception("%s %s cannot be fetched", source.table, day)
            done.failed = (
                f"{source.table} {day}: the fetch broke off with {type(error).__name__}; the log says where"
            )
            return done
    return done


def days_owed(
    source: Source, place: LandingPlace, today: date, first: date | None = None, through: date | None = None
) -> Sequence[date]:
    """The days that a fetch asks for, the earliest first."""
    landed = [key_of(listed.path, source.table, Grain.DAY) for listed in place.list(source.table)]
    keys = [key for key in landed if key is not None]
    if first is None:
        last = date.fromisoformat(day_key(max(keys))) if keys else None
        first = source.first if last is None else last - timedelta(days=source.look_back_days - 1)
        first = max(first, source.first)
    through = min(through or today, today - timedelta(days=1))
    return [first + timedelta(days=number) for number in range((through - first).days + 1)]


def _land(
    source: Source, place: LandingPlace, day: date, done: Fetched, sleep: Callable[[float], None]
) -> None:
    rows = (database if isinstance(source, DatabaseSource) else api).rows_of_day(source, day, sleep)
    path = f"{source.table}/{day}.parquet"
    others = [
        listed.path
        for listed in place.list(source.table)
        if listed.path != path and listed.path.startswith(f"{source.table}/{day}.")
    ]
    if others:
        raise SourceError(
            f"{place.root}/{others[0]} is there beside what {source.table} fetches; remove one of them"
        )
    before = _landed(place, path)
    if not rows.height:
        if before is not None and before.height:
            raise SourceError(
                f"{source.table} {day}: the source has no rows, where {before.height:,} had landed. They stay; remove "
                f"{place.root}/{path} if that is meant"
            )
        done.empty.append(str(day))
        return
    if before is not None and before.schema == rows.schema and data_version(before) == data_version(rows):
        done.unchanged.append(str(day))
        return
    buffer = io.BytesIO()
    rows.write_parquet(buffer, compression="zstd", compression_level=1)
    place.create(path, buffer.getvalue())
    (done.landed if before is None else done.corrected)[str(day)] = rows.height


def _landed(place: LandingPlace, path: str) -> pl.DataFrame | None:
    """What has landed of a day; an empty table where that cannot be read, None where nothing has."""
    if place.stat(path) is None:
        return None
    try:
        return pl.read_parquet(io.BytesIO(place.read(path)))
    except pl.exceptions.PolarsError:
        return pl.DataFrame()
