"""Bands: what a number of a day may be, judged by the days before it.

The centre of a band is the median of the days before, its half-width a multiple of their median absolute
deviation (Hampel, The Influence Curve and Its Role in Robust Estimation, 1974), so that a few broken days
among them neither move nor widen it. The half-width is never less than what chance alone does to a count or
a share, nor than what nobody would call a change.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from my_platform.quality.freshness import WEEK

# A normal distribution's standard deviation is this many times its median absolute deviation.
_TO_STANDARD_DEVIATION = 1.4826


@dataclass(frozen=True)
class Band:
    """How far a number may lie from the median of the days before.

    Attributes:
        spreads: half-width in standard deviations, of many days; few days tell the deviation less well, so
            that it is ``1 + 7 / days`` times as much.
        least_share: half-width that is always allowed, as a share of the median.
        least: half-width that is always allowed, in the unit of the number.
        least_days: with fewer days before it, a day is not judged.
    """

    spreads: float = 6.0
    least_share: float = 0.0
    least: float = 0.0
    least_days: int = 7


@dataclass(frozen=True)
class Limits:
    """Between which numbers, both included, a value of today is expected."""

    lower: float
    upper: float

    @property
    def centre(self) -> float:
        return (self.lower + self.upper) / 2

    def holds(self, value: float) -> bool:
        return self.lower <= value <= self.upper

    def times_off(self, value: float) -> float:
        """The distance from the centre in half-widths: more than 1 outside of the limits."""
        half = (self.upper - self.lower) / 2
        off = abs(value - self.centre)
        return off / half if half > 0 else math.inf if off else 0.0


def median(values: Sequence[float]) -> float:
    """The lower median: always one of the values."""
    return sorted(values)[(len(values) - 1) // 2]


def deviation(values: Sequence[float], centres: Sequence[float]) -> float:
    """A robust standard deviation of values about their centres."""
    off = [abs(value - centre) for value, centre in zip(values, centres, strict=True)]
    return _TO_STANDARD_DEVIATION * median(off)


def caution(days: int) -> float:
    """How much wider a band of few days is than one of many."""
    return 1 + WEEK / days


def expected(
    before: Sequence[tuple[int, float]], day: int, noise: float, band: Band, value: float
) -> Limits | None:
    """The limits of a day's value; None where too few days lie before it.

    There are two bands, that of all days before and that of the same weekday's, so that a table with a
    rhythm of weeks is judged by it; a value is held against the one that it fits better.

    Args:
        before: day number since 1970 and value, for the days before.
        day: the day that is judged.
        noise: the standard deviation that chance alone gives the value.
        value: what is judged.
    """
    if len(before) < band.least_days:
        return None
    values = [found for _, found in before]
    weekdays: dict[int, list[float]] = {}
    for number, found in before:
        weekdays.setdefault(number % WEEK, []).append(found)
    by_weekday = {weekday: median(found) for weekday, found in weekdays.items()}
    overall = median(values)
    centres = [(overall, deviation(values, [overall] * len(values)))]
    if day % WEEK in by_weekday:
        within = deviation(values, [by_weekday[number % WEEK] for number, _ in before])
        centres.append((by_weekday[day % WEEK], within))
    bands = [_around(centre, spread, len(before), noise, band) for centre, spread in centres]
    return min(bands, key=lambda limits: limits.times_off(value))


def _around(centre: float, spread: float, days: int, noise: float, band: Band) -> Limits:
    half = max(band.spreads * caution(days) * max(spread, noise), band.least_share * abs(centre), band.least)
    return Limits(centre - half, centre + half)
