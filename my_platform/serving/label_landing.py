"""Labels that the service was told, landed among those that their source delivers, as files by the day they became known.

A label is known by its row. Where the source's files say it too, the report that became known first counts, and the
other one is kept out of its file: so a label counts once, from the time at which it was counted when rows were scored.
The source's own files are kept beside the log, so that a label which is taken back leaves them as they were delivered.
"""

import hashlib
import io
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from my_platform.errors import PlatformError
from my_platform.incremental.declare import day_key, ordinal
from my_platform.serving.declaration import Service
from my_platform.serving.log_landing import (
    LOG_FILE,
    SECONDS_A_DAY,
    column_of,
    opened_log,
    parquet_bytes,
    plain_value,
)
from my_platform.storage.objects import locked, replace_file

_STATE = "landed.json"


@dataclass(frozen=True)
class Differing:
    """A row whose label the source's file and the service tell differently.

    Attributes:
        counts: whose label counts, `file` or `service`: the one that became known first.
    """

    key: int | str
    file: str
    service: str
    counts: str

    @property
    def said(self) -> str:
        """The difference in a sentence, with what to do."""
        other = "correct the file" if self.counts == "file" else "take the outcome of its case back"
        return (
            f"row {self.key}: the file says {self.file}, and the service was told {self.service}; the {self.counts}'s "
            f"counts, as it became known first. Where it is wrong, {other}"
        )


@dataclass(frozen=True)
class LandedLabels:
    """What one landing of labels did.

    Attributes:
        written: rows by day of the files that were written; 0 where a file was removed, as nothing is left of it.
        problems: days that could not be landed, and why.
    """

    written: Mapping[str, int] = field(default_factory=dict)
    unchanged: int = 0
    open_days: Sequence[str] = ()
    differing: Sequence[Differing] = ()
    problems: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "written": dict(self.written),
            "unchanged": self.unchanged,
            "open_days": list(self.open_days),
            "differing": [each.said for each in self.differing],
            "problems": list(self.problems),
        }


def land_labels(
    folder: Path, landing: Path, service: Service, *, now: datetime | None = None
) -> LandedLabels:
    """Land the labels of a service's log that stand, on the days that are over.

    Args:
        folder: of the use's log; where there is no log, nothing is landed.
        now: days that end after it are not over; the clock's where it is not given.

    Raises:
        PlatformError: the log is of another form, or a label in it cannot be landed.
    """
    if not (folder / LOG_FILE).exists():
        return LandedLabels()
    today = int((now or datetime.now(UTC)).timestamp()) // SECONDS_A_DAY
    with locked(folder / "landed.lock"):
        with closing(opened_log(folder / LOG_FILE)) as log:
            told = _told(log, service)
        files = _Files(folder / "labels", landing / service.labels.landed, service)
        if told.is_empty() and not files.written:
            return LandedLabels()
        return _land(files, told, service, today)


def _land(files: "_Files", told: pl.DataFrame, service: Service, today: int) -> LandedLabels:
    key, known = service.key, service.labels.known
    days = told[known].dt.epoch("d")
    over = told.filter(days < today)
    delivered = files.delivered()
    base = pl.concat([frame.select(over.columns) for frame in delivered.values()] or [over.clear()])
    pairs = over.join(base, on=key, how="inner", suffix=" of file").sort(f"{known} of file", known)
    first = pairs.unique(key, keep="first", maintain_order=True)
    of_file = first.filter(pl.col(f"{known} of file") <= pl.col(known))
    own = over.join(of_file, on=key, how="anti")
    out = pairs.join(of_file, on=key, how="anti").select(key, pl.col(f"{known} of file").alias(known))
    written: dict[str, int] = {}
    unchanged = 0
    touched = {*own[known].dt.epoch("d"), *out[known].dt.epoch("d"), *map(ordinal, files.written)}
    problems = list(files.problems.values())
    for day in sorted(touched):
        name = day_key(day)
        if name in files.problems:
            continue
        added = own.filter(pl.col(known).dt.epoch("d") == day)
        rows = delivered.get(name)
        if rows is None and files.elsewhere(name):
            problems.append(
                f"{files.elsewhere(name)}: labels that the service was told land in {name}.parquet alone; deliver the "
                "day as Parquet"
            )
            continue
        kept = None if rows is None else rows.join(out, on=[key, known], how="anti")
        changed = added.height > 0 or (rows is not None and kept is not None and kept.height < rows.height)
        merged = pl.concat([each for each in (kept, added) if each is not None]).sort(known, key)
        if files.write(name, merged if changed else None):
            written[name] = merged.height
        else:
            unchanged += 1
    open_days = sorted({day_key(day) for day in days.filter(days >= today)})
    return LandedLabels(written, unchanged, open_days, _differing(first, service), problems)


def _told(log: sqlite3.Connection, service: Service) -> pl.DataFrame:
    """The labels that stand, one for each row: the one that became known first."""
    tables = {name for (name,) in log.execute("select name from sqlite_master where type = 'table'")}
    standing = " where number not in (select feedback from withdrawn)" if "withdrawn" in tables else ""
    schema = service.labels.contract.schema
    found: dict[str, list[Any]] = {name: [] for name in schema}
    for key, label in log.execute(f"select key, label from feedback{standing} order by number"):
        said = {**json.loads(label), service.key: int(key) if schema[service.key].is_integer() else key}
        for name, kind in schema.items():
            found[name].append(plain_value(said.get(name), kind))
    try:
        rows = pl.DataFrame([column_of(name, values, schema[name]) for name, values in found.items()])
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise PlatformError(
            f"the labels of {service.use} cannot be landed as {service.labels.landed}: {error}"
        ) from error
    return rows.sort(service.labels.known, service.key).unique(service.key, keep="first", maintain_order=True)


def _differing(pairs: pl.DataFrame, service: Service) -> list[Differing]:
    """The rows that both tell, and tell differently."""
    key, known = service.key, service.labels.known
    names = [name for name in service.labels.contract.schema if name not in (key, known)]
    found = []
    for row in pairs.iter_rows(named=True):
        own = {name: row[name] for name in names}
        other = {name: row[f"{name} of file"] for name in names}
        if own != other:
            counts = "file" if row[f"{known} of file"] <= row[known] else "service"
            found.append(Differing(row[key], _words(other), _words(own), counts))
    return found


def _words(columns: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in columns.items())


class _Files:
    """The label files of a landing folder, and what their source delivered of those that were written here.

    Attributes:
        written: by day, the digests that a file written here may have, and whether its source had delivered any.
        problems: by day, why its file cannot be merged with anything.
    """

    def __init__(self, folder: Path, landed: Path, service: Service) -> None:
        self._folder, self._landed = folder, landed
        self._schema = service.labels.contract.schema
        self.problems: dict[str, str] = {}
        try:
            self.written: dict[str, dict[str, Any]] = json.loads((folder / _STATE).read_bytes())
        except FileNotFoundError:
            self.written = {}

    def delivered(self) -> dict[str, pl.DataFrame]:
        """What the source delivered, by day; days whose file cannot be read are left out and told."""
        found: dict[str, pl.DataFrame] = {}
        for path in sorted(self._landed.glob("*.parquet")):
            data = path.read_bytes()
            if self._ours(path.stem, data):
                if not self.written[path.stem]["delivered"]:
                    continue
                data = self._kept(path.stem).read_bytes()
            try:
                frame = pl.read_parquet(io.BytesIO(data))
                found[path.stem] = frame.select(
                    frame[name].cast(kind, strict=True) for name, kind in self._schema.items()
                )
            except pl.exceptions.PolarsError as error:
                self.problems[path.stem] = f"{path}: {str(error).splitlines()[0]}; it is left as it is"
        return found

    def elsewhere(self, day: str) -> Path | None:
        """A file of the day in another format."""
        return next((path for path in self._landed.glob(f"{day}.*") if path.suffix != ".parquet"), None)

    def write(self, day: str, rows: pl.DataFrame | None) -> bool:
        """Let the file of a day hold these rows, or what its source delivered; whether that changed it."""
        path = self._landed / f"{day}.parquet"
        present = path.read_bytes() if path.exists() else None
        ours = present is not None and self._ours(day, present)
        delivered = present if not ours else None
        if ours and self.written[day]["delivered"]:
            delivered = self._kept(day).read_bytes()
        wanted = delivered if rows is None else parquet_bytes(rows)
        if rows is not None and delivered is not None:
            replace_file(self._kept(day), delivered)
        if rows is not None and wanted is not None:
            # Until the file is in its place, it may be the former one.
            known = [_digest(present)] if ours and present is not None else []
            self.written[day] = {"digests": [*known, _digest(wanted)], "delivered": delivered is not None}
            self._tell()
        if wanted is None:
            path.unlink(missing_ok=True)
        elif wanted != present:
            replace_file(path, wanted)
        if rows is None and self.written.pop(day, None) is not None:
            self._tell()
            self._kept(day).unlink(missing_ok=True)
        return wanted != present

    def _ours(self, day: str, data: bytes) -> bool:
        return day in self.written and _digest(data) in self.written[day]["digests"]

    def _kept(self, day: str) -> Path:
        return self._folder / f"{day}.parquet"

    def _tell(self) -> None:
        replace_file(self._folder / _STATE, json.dumps(self.written, sort_keys=True).encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
