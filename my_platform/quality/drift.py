"""Drift: how far the distribution of a column has moved, from sketches of its days.

A sketch is a column's quantiles at fixed probabilities, or for text and flags the shares of its values. Both
statistics compare a day with a reference: the Kolmogorov-Smirnov distance, the largest difference of two
distribution functions, and the population stability index over ten classes of the reference (Yurdakul, Naranjo,
Statistical Properties of the Population Stability Index, 2020).
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from my_platform.quality.history import median

Sketch = npt.NDArray[np.float64]
"""Values at evenly spaced probabilities from 0 to 1, rising."""

CLASSES = 10
# An empty class counts at least as this share: the index of a class that vanishes stays finite.
_LEAST_SHARE = 0.001
# Values with a smaller share are one class, so that what comes and goes around the least share that a profile
# names is no drift; a value that the reference hardly knows is a class of its own from the second share on.
_COMMON_SHARE = 0.02
_NEW_SHARE = 0.05
_DIGITS = 6
# Of days that are all drawn from one distribution, one in 100,000 lies further off than chance allows:
# P(√n · distance > 2.47) for the distance (Kolmogorov), P(χ² with 9 degrees > 40) for n · index.
_CHANCE_DISTANCE = 2.47
_CHANCE_INDEX = 40.0


def reference(sketches: Sequence[Sketch]) -> Sketch:
    """The median of the days' quantiles, one by one: a few broken days do not bend it."""
    return np.sort(np.stack(sketches), axis=0)[(len(sketches) - 1) // 2]


def share_up_to(sketch: Sketch, points: Sketch) -> Sketch:
    """The share of a column's values that are at most each of the points."""
    return np.searchsorted(sketch, points, side="right") / len(sketch)


def distances(sketches: Sequence[Sketch], ref: Sketch) -> list[float]:
    """The Kolmogorov-Smirnov distance of each sketch from the reference, 0 to 1."""
    found = []
    for sketch in sketches:
        points = np.concatenate([sketch, ref])
        gap = np.abs(share_up_to(sketch, points) - share_up_to(ref, points))
        found.append(round(float(gap.max()), _DIGITS))
    return found


def indices(sketches: Sequence[Sketch], ref: Sketch, rows: Sequence[int]) -> list[float]:
    """The population stability index of each sketch, of so many rows, over tenths of the reference."""
    at = [(len(ref) - 1) * step // CLASSES for step in range(1, CLASSES)]
    edges = np.unique(ref[at])
    wanted = _classes(ref, edges)
    return [
        stability_index(_classes(sketch, edges), wanted, number)
        for sketch, number in zip(sketches, rows, strict=True)
    ]


def _classes(sketch: Sketch, edges: Sketch) -> list[float]:
    """The shares of the classes that end with each edge, and of what lies beyond the last."""
    up_to = [0.0, *share_up_to(sketch, edges).tolist(), 1.0]
    return [after - before for before, after in pairwise(up_to)]


def stability_index(shares: Sequence[float], wanted: Sequence[float], rows: int) -> float:
    """Σ (share − wanted) · ln(share / wanted) over classes; an empty class counts as half a row."""
    least, total = max(_LEAST_SHARE, 0.5 / max(rows, 1)), 0.0
    for share, expected in zip(shares, wanted, strict=True):
        a, b = max(share, least), max(expected, least)
        total += (a - b) * math.log(a / b)
    return round(total, _DIGITS)


def reference_shares(days: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median share of each value over the days; 0 where a day does not have it."""
    values = sorted({value for day in days for value in day})
    return {value: median([day.get(value, 0.0) for day in days]) for value in values}


def share_indices(
    days: Sequence[Mapping[str, float]], ref: Mapping[str, float], rows: Sequence[int]
) -> list[float]:
    """The population stability index of each day's shares; values that are rare on both sides are one class."""
    common = {value for value, share in ref.items() if share >= _COMMON_SHARE}
    found = []
    for day, number in zip(days, rows, strict=True):
        values = sorted(common | {value for value, share in day.items() if share >= _NEW_SHARE})
        shares = [day.get(value, 0.0) for value in values]
        wanted = [ref.get(value, 0.0) for value in values]
        rest = (max(1 - sum(shares), 0.0), max(1 - sum(wanted), 0.0))
        found.append(stability_index([*shares, rest[0]], [*wanted, rest[1]], number))
    return found


def chance_distance(rows: int) -> float:
    """The distance that chance alone gives one day in 100,000."""
    return _CHANCE_DISTANCE / math.sqrt(max(rows, 1))


def chance_index(rows: int) -> float:
    """The index that chance alone gives one day in 100,000."""
    return _CHANCE_INDEX / max(rows, 1)
