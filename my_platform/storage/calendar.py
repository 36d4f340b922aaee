"""The calendar file that lies beside landed tables: first day, and the last one of a closed data set."""

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from my_platform.errors import SourceError

if TYPE_CHECKING:
    from my_platform.storage.places import LandingPlace


@dataclass(frozen=True)
class Calendar:
    """The days a landing covers; `last` is None where it goes on until today."""

    first: date
    last: date | None


def calendar_path(landing: Path) -> Path:
    """Where the calendar stands."""
    return landing / "calendar.json"


def read_json(path: Path) -> dict[str, Any]:
    """Read a landed JSON object; raises SourceError where the file holds anything else."""
    return json_object(path.read_bytes(), path)


def json_object(data: bytes, path: Path | str) -> dict[str, Any]:
    """A landed JSON object from its bytes; raises SourceError where they are anything else."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise SourceError(f"{path} is damaged: expected a JSON object, found {error}; land again") from error
    if not isinstance(value, dict):
        raise SourceError(f"{path} is damaged: expected a JSON object, found {value!r}; land again")
    return value


def json_date(value: dict[str, Any], field: str, path: Path | str) -> date | None:
    """A field of a landed JSON object as a date, None for null; raises SourceError for anything else."""
    text = value.get(field, "no such field")
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise SourceError(
            f"{path} is damaged: expected {field} to be YYYY-MM-DD or null, found {text!r}; "
            f"remove the file and land again"
        ) from error


def read_calendar(landing: Path) -> Calendar | None:
    """The calendar of a landing, None where nothing is landed yet; raises SourceError on a damaged file."""
    path = calendar_path(landing)
    return calendar_of(path.read_bytes(), path) if path.exists() else None


def calendar_in(place: "LandingPlace") -> Calendar | None:
    """The same of a landing in a folder or a bucket; raises SourceError on a damaged file."""
    name = calendar_path(Path()).name
    try:
        return calendar_of(place.read(name), f"{place.root}/{name}")
    except FileNotFoundError:
        return None


def calendar_of(data: bytes, path: Path | str) -> Calendar:
    """The calendar that a file says; raises SourceError on a damaged one, which it names by its path."""
    value = json_object(data, path)
    first, last = json_date(value, "first", path), json_date(value, "last", path)
    if first is None or (last is not None and last < first):
        raise SourceError(
            f"{path} is damaged: expected a first day not after the last, found first {first}, last {last}; "
            f"remove the file and land again"
        )
    return Calendar(first, last)
