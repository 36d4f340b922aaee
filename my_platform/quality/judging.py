"""Judging a day: its profile against the profiles of the days before, check by check.

A check says what it found and never keeps a row out. What too little history cannot tell passes, and says so.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from my_platform.incremental.checks import ERROR, WARN, Severity
from my_platform.quality import drift
from my_platform.quality.freshness import WEEK
from my_platform.quality.history import Band, Limits, caution, deviation, expected, median
from my_platform.quality.profiles import ColumnProfile, Profile
from my_platform.quality.watch import Thresholds, Watch

TRUE = "true"
# Of 28 days, the range of the others is first taken without the two that are furthest off.
_DAYS_PER_LEFT_OUT = 14


@dataclass(frozen=True)
class Result:
    """One row of a table of checks; ``column`` is empty where the check is about the whole table."""

    check: str
    column: str
    measure: str
    passed: bool
    severity: Severity | None
    value: float
    lower: float | None
    upper: float | None
    days: int
    message: str


@dataclass(frozen=True)
class Day:
    """A day and what lies before it, by day number since 1970; empty for tables without partitions."""

    number: int
    profile: Profile
    before: Mapping[int, Profile]

    def history(self, value: Callable[[Profile], float]) -> list[tuple[int, float]]:
        """A number of each of the days before that have rows."""
        return [(number, value(found)) for number, found in sorted(self.before.items()) if found.rows]

    def columns(self, name: str) -> list[tuple[int, ColumnProfile]]:
        """A column on each of the days before that have values in it."""
        return [
            (number, found.columns[name])
            for number, found in sorted(self.before.items())
            if name in found.columns and found.columns[name].filled
        ]


def volume(day: Day, watch: Watch) -> Iterator[Result]:
    """The number of rows."""
    before = [(number, float(found.rows)) for number, found in sorted(day.before.items())]
    noise = math.sqrt(median([rows for _, rows in before])) if before else 0.0
    yield _banded(
        ("volume", "", "rows"),
        float(day.profile.rows),
        before,
        day.number,
        noise,
        watch.thresholds.volume,
        watch.thresholds.error_at,
        f"{day.profile.rows:,} rows",
    )


def nulls(day: Day, watch: Watch) -> Iterator[Result]:
    """The share of rows without a value, of each column."""
    rows = max(day.profile.rows, 1)
    for name, column in day.profile.columns.items():
        limits = watch.limits_of(name)
        before = [
            (number, (found.rows - found.filled) / found.rows)
            for number, profile in sorted(day.before.items())
            if profile.rows and (found := profile.columns.get(name)) is not None
        ]
        yield _banded(
            ("nulls", name, "share"),
            (column.rows - column.filled) / rows,
            before,
            day.number,
            _noise_of_share(before, rows),
            limits.nulls,
            limits.error_at,
            f"{column.rows - column.filled:,} of {column.rows:,} rows have no {name}",
        )


def label_drift(day: Day, watch: Watch) -> Iterator[Result]:
    """The share of true labels."""
    if watch.label is None or not day.profile.columns[watch.label].filled:
        return
    column = day.profile.columns[watch.label]
    before = [(number, _share_of_true(found)) for number, found in day.columns(watch.label)]
    yield _banded(
        ("label_drift", watch.label, "share of true"),
        _share_of_true(column),
        before,
        day.number,
        _noise_of_share(before, column.filled),
        watch.thresholds.labels,
        watch.thresholds.error_at,
        f"{watch.label} is true in {_share_of_true(column):.3%} of {column.filled:,} rows",
    )


def ranges(day: Day, watch: Watch) -> Iterator[Result]:
    """The least and the greatest value of each watched column of numbers or times."""
    for name in watch.columns:
        column, limits = day.profile.columns[name], watch.limits_of(name)
        if not len(column.sketch):
            continue
        before = [found.sketch for _, found in day.columns(name)]
        least, greatest = float(column.sketch[0]), float(column.sketch[-1])
        allowed = _usual_range([float(s[0]) for s in before], [float(s[-1]) for s in before], limits)
        for measure, value in (("minimum", least), ("maximum", greatest)):
            yield _result(
                ("ranges", name, measure),
                value,
                allowed if len(before) >= limits.drift.least_days else None,
                len(before),
                limits.drift.least_days,
                limits.error_at,
                f"the {measure} of {name} is {value:,.6g}",
            )


def drifts(day: Day, watch: Watch) -> Iterator[Result]:
    """How far the distribution of each watched column lies from that of the days before."""
    for name in watch.columns:
        column, limits = day.profile.columns[name], watch.limits_of(name)
        if not column.filled:
            continue
        before = day.columns(name)
        for measure, least, chance, values in _statistics(column, [found for _, found in before], limits):
            allowed, value = None, 0.0
            if len(before) >= limits.drift.least_days:
                value = values[0]
                usual = _highest(values[1:], [number for number, _ in before], day.number, limits)
                by_chance = caution(len(before)) * chance(column.filled)
                allowed = Limits(0.0, round(max(least, by_chance, usual), 6))
            yield _result(
                ("drift", name, measure),
                value,
                allowed,
                len(before),
                limits.drift.least_days,
                2 * limits.error_at - 1,
                f"{name} is distributed otherwise than before: {measure} {value:.3f}",
            )


def _statistics(
    today: ColumnProfile, before: Sequence[ColumnProfile], limits: Thresholds
) -> Iterator[tuple[str, float, Callable[[int], float], list[float]]]:
    """Name, least drift, what chance gives, and the statistic of today followed by those of the days before."""
    rows = [today.filled, *(found.filled for found in before)]
    if not before:
        yield "PSI", limits.index, drift.chance_index, []
    elif len(today.sketch):
        sketches = [found.sketch for found in before]
        ref = drift.reference(sketches)
        sketches.insert(0, today.sketch)
        yield "KS distance", limits.distance, drift.chance_distance, drift.distances(sketches, ref)
        yield "PSI", limits.index, drift.chance_index, drift.indices(sketches, ref, rows)
    else:
        shares = [found.shares for found in before]
        values = drift.share_indices([today.shares, *shares], drift.reference_shares(shares), rows)
        yield "PSI", limits.index, drift.chance_index, values


def _highest(before: Sequence[float], numbers: Sequence[int], day: int, limits: Thresholds) -> float:
    """What the statistic may be, by what it was on the days before and on the same weekdays."""
    centre = median(before)
    spread = deviation(before, [centre] * len(before))
    same = [value for value, number in zip(before, numbers, strict=True) if number % WEEK == day % WEEK]
    usual = (median(same) if len(same) > 2 else max(same)) if same else 0.0
    return max(centre + limits.drift.spreads * caution(len(before)) * spread, limits.weekday_times * usual)


def _usual_range(least: Sequence[float], greatest: Sequence[float], limits: Thresholds) -> Limits:
    """The extremes of the days before, widened; days that are out of the others' range do not count."""
    if not least:
        return Limits(0.0, 0.0)
    left_out = len(least) // _DAYS_PER_LEFT_OUT
    inner = _widened(sorted(least)[left_out], sorted(greatest)[len(greatest) - 1 - left_out], limits)
    return _widened(min(filter(inner.holds, least)), max(filter(inner.holds, greatest)), limits)


def _widened(low: float, high: float, limits: Thresholds) -> Limits:
    """A range with room on both sides; where no value is negative, or none positive, none is expected to be."""
    room = limits.range_times * (high - low)
    lower, upper = low - room, high + room
    return Limits(max(lower, 0.0) if low >= 0 else lower, min(upper, 0.0) if high <= 0 else upper)


def _share_of_true(column: ColumnProfile) -> float:
    return column.shares.get(TRUE, 0.0) * column.rows / column.filled


def _noise_of_share(before: Sequence[tuple[int, float]], rows: int) -> float:
    """The standard deviation of a share over so many rows; of none, that of a single one."""
    share = max(median([value for _, value in before]) if before else 0.0, 1 / rows)
    return math.sqrt(share * (1 - min(share, 1.0)) / rows)


def _banded(
    name: tuple[str, str, str],
    value: float,
    before: Sequence[tuple[int, float]],
    number: int,
    noise: float,
    band: Band,
    error_at: float,
    found: str,
) -> Result:
    allowed = expected(before, number, noise, band, value)
    return _result(name, value, allowed, len(before), band.least_days, error_at, found)


def _result(
    name: tuple[str, str, str],
    value: float,
    allowed: Limits | None,
    days: int,
    least_days: int,
    error_at: float,
    found: str,
) -> Result:
    check, column, measure = name
    if allowed is None:
        text = f"not judged: {days} days before it, {least_days} are needed"
        return Result(check, column, measure, True, None, value, None, None, days, text)
    passed = allowed.holds(value)
    severity = None if passed else ERROR if allowed.times_off(value) >= error_at else WARN
    text = "" if passed else f"{found}, expected {_in_words(allowed, measure)} by the {days} days before"
    return Result(check, column, measure, passed, severity, value, allowed.lower, allowed.upper, days, text)


def _in_words(allowed: Limits, measure: str) -> str:
    lower, upper = f"{allowed.lower:,.6g}", f"{allowed.upper:,.6g}"
    if "share" in measure:
        lower, upper = f"{allowed.lower:.3%}", f"{allowed.upper:.3%}"
    elif measure == "rows":
        lower, upper = f"{math.ceil(allowed.lower):,}", f"{math.floor(allowed.upper):,}"
    return f"{lower} to {upper}" if allowed.lower > 0 or allowed.upper <= 0 else f"at most {upper}"
