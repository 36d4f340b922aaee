"""The prediction log landed as a table: a Parquet file for each finished day of the rows' own time.

The service alone writes the log, an SQLite file; this only reads it. A day whose rows have not changed is not read
again, and the same rows give the same bytes, so that a landed day causes no work unless something was scored for it
since.
"""

import hashlib
import io
import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from my_platform.errors import PlatformError
from my_platform.incremental.declare import day_key
from my_platform.learning.bundle import Bundle, read_bundle
from my_platform.storage.objects import locked, replace_file

LAYOUT = 1
PREFIX = "F_"
LOG_FILE = "log.sqlite"
_STATE = "landed.json"
SECONDS_A_DAY = 86_400
_ROWS_AT_ONCE = 50_000

# What the log says of each row beside the row itself and its features.
SCORED: Mapping[str, pl.DataType] = {
    "SCORED_AT": pl.Datetime("us"),
    "MODEL": pl.String(),
    "WEEK": pl.String(),
    "BUNDLE": pl.String(),
    "FEATURE_CODE": pl.String(),
    "PROBABILITY": pl.Float64(),
    "FLAGGED": pl.Boolean(),
    "THRESHOLD": pl.Float64(),
    "DEGRADED": pl.String(),
    "LATENCY_US": pl.Int64(),
    "SHADOW_BUNDLE": pl.String(),
    "SHADOW_PROBABILITY": pl.Float64(),
}


@dataclass(frozen=True)
class LoggedTable:
    """How the log of a use lands.

    Attributes:
        use: what the models are for; the log's folder below ``settings.serving``.
        table: the landed table, a folder of files by day.
        asset: the asset of its validated rows.
        key, time: the columns of the row that identify it and say when it happened.
        row: the row's own columns with their types.
        features: all features with their types; each is landed under ``PREFIX`` and its name.
        feature_assets: the assets whose code made the features; see ``feature_code``.
    """

    use: str
    table: str
    asset: str
    key: str
    time: str
    row: Mapping[str, pl.DataType]
    features: Mapping[str, pl.DataType]
    feature_assets: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """The columns of a landed file."""
        return {**self.row, **SCORED, **{f"{PREFIX}{name}": kind for name, kind in self.features.items()}}


@dataclass(frozen=True)
class LandedLog:
    """What one landing of a log did: the days that it wrote, with their rows, and those that are not over."""

    written: Mapping[str, int]
    unchanged: int
    open_days: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        return {
            "written": dict(self.written),
            "unchanged": self.unchanged,
            "open_days": list(self.open_days),
        }


def feature_code(code: Mapping[str, str], assets: Sequence[str]) -> str:
    """A digest of the code versions of the assets that make the features, 16 hexadecimal digits."""
    told = json.dumps({name: code.get(name, "") for name in assets}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def land_log(
    folder: Path, landing: Path, bundles: Path, table: LoggedTable, *, now: datetime | None = None
) -> LandedLog:
    """Write the finished days of a log that have changed since they were written last.

    Args:
        folder: of the use's log; where there is no log, nothing is landed.
        landing: the landing folder.
        bundles: the folder of the bundles that the log names.
        now: days that end after it are not over; the clock's where it is not given.

    Raises:
        PlatformError: the log has another layout, or a row cannot be landed; the message names it.
        DamagedBundle: a bundle that the log names is not whole.
    """
    if not (folder / LOG_FILE).exists():
        return LandedLog({}, 0, [])
    today = int((now or datetime.now(UTC)).timestamp()) // SECONDS_A_DAY
    with locked(folder / "landed.lock"), closing(opened_log(folder / LOG_FILE)) as log:
        done = _state(folder / _STATE)
        about = _Bundles(bundles, table)
        written: dict[str, int] = {}
        unchanged, open_days = 0, []
        for day, rows, latest in log.execute(
            "select second / 86400 as day, count(*), max(rowid) from predictions group by day order by day"
        ).fetchall():
            key, path = day_key(day), landing / table.table / f"{day_key(day)}.parquet"
            if day >= today:
                open_days.append(key)
            elif done.get(key) == [rows, latest] and path.exists():
                unchanged += 1
            else:
                frame = pl.concat(_frames(log, day, table, about)).sort(table.time, table.key)
                data = parquet_bytes(frame)
                if not path.exists() or path.read_bytes() != data:
                    replace_file(path, data)
                    written[key] = frame.height
                else:
                    unchanged += 1
                done[key] = [rows, latest]
        replace_file(folder / _STATE, json.dumps(done, sort_keys=True).encode())
    return LandedLog(written, unchanged, open_days)


class _Bundles:
    """What the bundles of a log say, each read once and checked."""

    def __init__(self, folder: Path, table: LoggedTable) -> None:
        self._folder = folder
        self._table = table
        self._known: dict[str, tuple[Bundle, str]] = {}

    def __call__(self, digest: str) -> tuple[Bundle, str]:
        """The bundle of that name, and the digest of its features' code."""
        if digest not in self._known:
            bundle = read_bundle(self._folder, digest)
            code = feature_code(bundle.about["code"], self._table.feature_assets)
            self._known[digest] = bundle, code
        return self._known[digest]


def _frames(
    log: sqlite3.Connection, day: int, table: LoggedTable, bundles: _Bundles
) -> Iterator[pl.DataFrame]:
    """The rows of a day, some at a time."""
    cursor = log.execute(
        "select key, at_us, row, bundle, features, degraded, probability, threshold, flagged, latency_us, "
        "shadow_bundle, shadow_probability from predictions where second >= ? and second < ? order by second, key",
        (day * SECONDS_A_DAY, (day + 1) * SECONDS_A_DAY),
    )
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        yield _frame(rows, table, bundles)


def _frame(rows: Sequence[tuple[Any, ...]], table: LoggedTable, bundles: _Bundles) -> pl.DataFrame:
    found: dict[str, list[Any]] = {name: [] for name in table.schema}
    for key, at_us, row, digest, features, degraded, *scored in rows:
        bundle, code = bundles(digest)
        names = bundle.about["features"]
        values = json.loads(features)
        if len(values) != len(names):
            raise PlatformError(
                f"the log of {table.use}: row {key} has {len(values)} features, and its bundle {digest[:12]} names "
                f"{len(names)}; the log is not one of the service"
            )
        probability, threshold, flagged, latency_us, shadow, shadow_probability = scored
        of_row, of_features = json.loads(row), dict(zip(names, values, strict=True))
        for name, kind in table.row.items():
            found[name].append(plain_value(of_row.get(name), kind))
        told = {
            "SCORED_AT": at_us,
            "MODEL": bundle.about["model"],
            "WEEK": bundle.about["week"],
            "BUNDLE": digest,
            "FEATURE_CODE": code,
            "PROBABILITY": probability,
            "FLAGGED": bool(flagged),
            # A bundle that was promoted untested has none, and the service flags nothing.
            "THRESHOLD": threshold if math.isfinite(threshold) else None,
            "DEGRADED": degraded,
            "LATENCY_US": latency_us,
            "SHADOW_BUNDLE": shadow,
            "SHADOW_PROBABILITY": shadow_probability,
        }
        for name, value in told.items():
            found[name].append(value)
        for name in table.features:
            found[f"{PREFIX}{name}"].append(of_features.get(name))
    try:
        return pl.DataFrame([column_of(name, values, table.schema[name]) for name, values in found.items()])
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise PlatformError(f"the log of {table.use} cannot be landed as {table.table}: {error}") from error


def column_of(name: str, values: list[Any], kind: pl.DataType) -> pl.Series:
    if kind == pl.Float64():
        # JSON writes a whole number of a float column as it writes an integer.
        values = [None if value is None else float(value) for value in values]
    return pl.Series(name, values, dtype=kind, strict=True)


def plain_value(value: Any, kind: pl.DataType) -> Any:
    """A value of the row as its column holds it; times are without zone, in UTC."""
    if value is None or not isinstance(kind, pl.Datetime):
        return value
    moment = datetime.fromisoformat(value)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    data = io.BytesIO()
    frame.rechunk().write_parquet(data, compression="zstd", row_group_size=1 << 20)
    return data.getvalue()


def opened_log(path: Path) -> sqlite3.Connection:
    log = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    (layout,) = log.execute("pragma user_version").fetchone()
    if layout != LAYOUT:
        log.close()
        raise PlatformError(
            f"{path} has layout {layout}, expected {LAYOUT}; land it with the version that wrote it"
        )
    return log


def _state(path: Path) -> dict[str, list[int]]:
    """How many rows each day had when it was landed, and the number of its last one."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
