"""The source of this domain: meters with their hours, readings two days later, and the weather, by seed and day.

A meter takes more in the hours and on the weekdays of its kind, and where it is cold; two days of a stormy front come
about every two weeks. Days are drawn one by one, so that landing N days and then M more gives the bytes of N + M.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from my_platform.errors import SourceError
from my_platform.storage.calendar import calendar_path, json_date, read_calendar, read_json
from my_platform.storage.landing_files import extend_calendar, write_json, write_table

KINDS = ("home", "shop", "plant")
REGIONS = 4
READ_AFTER_DAYS = 2
_EPOCH = date(1970, 1, 1)
_MOST_METERS = 10_000
_SHAPES = np.array(
    [
        [3, 2, 2, 2, 2, 3, 5, 7, 7, 5, 4, 4, 5, 5, 4, 4, 6, 9, 11, 12, 11, 9, 6, 4],
        [1, 1, 1, 1, 1, 1, 2, 5, 9, 11, 12, 12, 11, 11, 12, 12, 11, 10, 8, 5, 2, 1, 1, 1],
        [6, 6, 6, 6, 7, 8, 10, 11, 11, 11, 11, 10, 10, 11, 11, 11, 10, 9, 8, 7, 7, 7, 6, 6],
    ]
)
_ON_WEEKENDS = (1.2, 0.5, 0.7)
_BY_COLD = (0.025, 0.01, 0.004)
_HEATED_BELOW = 18.0
_NOISE = 0.12
_HOLIDAYS = {(1, 1), (5, 1), (10, 3), (12, 25), (12, 26)}
_LAND_ANEW = "choose another home, or remove what has landed"


@dataclass(frozen=True)
class Landed:
    """What one landing wrote: hours of meters, days, files."""

    rows: int
    days: int
    files: int


def land_days(
    landing: Path,
    *,
    first: date,
    days: int,
    meters: int,
    seed: int,
    closed: bool,
    on_day: Callable[[date], None] | None = None,
) -> Landed:
    """Land the days first … first + days - 1 of a simulation; the same arguments give the same bytes.

    Args:
        closed: whether the calendar gets its last day.

    Raises:
        SourceError: another simulation, or another source's files, lie there; or there is no such number of meters.
    """
    if not 1 <= meters <= _MOST_METERS:
        raise SourceError(f"{meters} meters cannot be simulated; expected 1 to {_MOST_METERS:,}")
    state = {"meters": meters, "seed": seed, "first": first.isoformat()}
    path = landing / "demand_simulator.json"
    if path.exists():
        present = read_json(path)
        if {name: present.get(name) for name in state} != state:
            raise SourceError(f"{landing} holds the simulation {present}, not {state}; {_LAND_ANEW}")
        days_before = int(present.get("days", 0))
    else:
        if calendar_path(landing).exists():
            raise SourceError(f"{landing} holds the files of another source; {_LAND_ANEW}")
        days_before = 0
    write_json({**state, "days": days_before}, path)
    profiles = meter_profiles(meters, seed)
    write_table(profiles, landing / "meters.parquet")
    landed = _land(landing, profiles, seed, first, 0, days, closed, on_day)
    write_json({**state, "days": max(days, days_before)}, path)
    return landed


def append_days(landing: Path, days: int, on_day: Callable[[date], None] | None = None) -> Landed:
    """Land the next days of the simulation that lies there; raises SourceError where there is none."""
    path = landing / "demand_simulator.json"
    calendar = read_calendar(landing)
    if not path.exists() or calendar is None:
        raise SourceError(f"{landing} holds no simulation to append to; simulate some days first")
    state = read_json(path)
    first = json_date(state, "first", path)
    assert first is not None
    profiles = meter_profiles(state["meters"], state["seed"])
    closed = calendar.last is not None
    landed = _land(landing, profiles, state["seed"], first, state["days"], days, closed, on_day)
    write_json({**state, "days": state["days"] + days}, path)
    return landed


def meter_profiles(meters: int, seed: int) -> pl.DataFrame:
    """The meters as they are landed."""
    draw = _generator(seed, 1)
    return pl.DataFrame(
        {
            "METER_ID": np.arange(meters),
            "REGION_ID": draw.integers(0, REGIONS, meters),
            "KIND": np.array(KINDS)[draw.choice(len(KINDS), meters, p=[0.7, 0.2, 0.1])],
        }
    )


def _land(
    landing: Path,
    profiles: pl.DataFrame,
    seed: int,
    first: date,
    start: int,
    days: int,
    closed: bool,
    on_day: Callable[[date], None] | None,
) -> Landed:
    files = 1
    for number in range(start, start + days):
        day = first + timedelta(days=number)
        write_table(hours_of(profiles, day), landing / "hours" / f"{day}.parquet")
        write_table(weather_of(seed, day), landing / "weather" / f"{day}.parquet")
        files += 2
        if number >= READ_AFTER_DAYS:
            read = readings_of(profiles, seed, day - timedelta(days=READ_AFTER_DAYS))
            write_table(read, landing / "readings" / f"{day}.parquet")
            files += 1
        if on_day is not None:
            on_day(day)
    last = first + timedelta(days=start + days - 1)
    extend_calendar(landing, first, last if closed else None)
    return Landed(days * 24 * profiles.height, days, files)


def hours_of(profiles: pl.DataFrame, day: date) -> pl.DataFrame:
    """The hours of a day, meter by meter, in order of time."""
    hour = np.repeat(np.arange(24), profiles.height)
    return pl.DataFrame(
        {
            "HOUR_ID": ((day - _EPOCH).days * 24 + hour) * _MOST_METERS + np.tile(profiles["METER_ID"], 24),
            "STARTS_AT": _moments(day, hour),
            "METER_ID": np.tile(profiles["METER_ID"], 24),
            "REGION_ID": np.tile(profiles["REGION_ID"], 24),
            "HOLIDAY": np.full(hour.size, (day.month, day.day) in _HOLIDAYS),
        }
    )


def weather_of(seed: int, day: date) -> pl.DataFrame:
    """The temperatures of a day by region and hour."""
    celsius = _celsius(seed, day)
    hour, region = np.repeat(np.arange(24), REGIONS), np.tile(np.arange(REGIONS), 24)
    return pl.DataFrame(
        {
            "WEATHER_ID": ((day - _EPOCH).days * 24 + hour) * REGIONS + region,
            "VALID_AT": _moments(day, hour),
            "REGION_ID": region,
            "DECI_CELSIUS": np.rint(celsius[hour, region] * 10).astype(np.int64),
        }
    )


def readings_of(profiles: pl.DataFrame, seed: int, day: date) -> pl.DataFrame:
    """What the meters took in the hours of a day, read out at midnight two days later."""
    meters = profiles.height
    of_meter = _generator(seed, 2)
    size = of_meter.lognormal(6.0, 0.6, meters)
    kind = np.array([KINDS.index(each) for each in profiles["KIND"]])
    off = day.weekday() >= 5 or (day.month, day.day) in _HOLIDAYS
    cold = np.maximum(_HEATED_BELOW - _celsius(seed, day)[:, profiles["REGION_ID"].to_numpy()], 0)
    noise = _generator(seed, 3, day.toordinal()).normal(0, _NOISE, (24, meters))
    demand = (
        size
        * _SHAPES.T[:, kind]
        / 6
        * (np.array(_ON_WEEKENDS)[kind] if off else 1.0)
        * (1 + np.array(_BY_COLD)[kind] * cold)
        * np.exp(noise)
    )
    hours = hours_of(profiles, day)
    read_at = datetime.combine(day + timedelta(days=READ_AFTER_DAYS), time())
    return hours.select(
        "HOUR_ID",
        READ_AT=pl.lit(read_at).cast(pl.Datetime("us")),
        WATT_HOURS=pl.Series(np.rint(demand).astype(np.int64).ravel()),
    )


def _celsius(seed: int, day: date) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Temperatures of a day: hours by regions, of the season, the hour and the front of two weeks."""
    season = -10 * np.cos(2 * np.pi * (day.timetuple().tm_yday - 20) / 365)
    hours = 4 * np.sin(2 * np.pi * (np.arange(24) - 9) / 24)
    week = (day.toordinal() // 14, day.toordinal() % 14)
    front = -8.0 if week[1] in (int(at := _generator(seed, 4, week[0]).integers(0, 12)), at + 1) else 0.0
    region = np.arange(REGIONS) * 1.5 + _generator(seed, 5, day.toordinal()).normal(0, 2, REGIONS)
    found: np.ndarray[tuple[int, int], np.dtype[np.float64]] = 10 + season + front + hours[:, None] + region
    return found


def _moments(day: date, hour: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pl.Series:
    start = np.datetime64(day, "us")
    return pl.Series(start + hour.astype("timedelta64[h]").astype("timedelta64[us]"))


def _generator(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, *purpose]))
