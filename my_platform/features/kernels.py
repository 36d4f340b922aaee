"""Single-value counterparts of polars' kernels, for what Python's own operators do otherwise.

Compiled row expressions call them by these names. Nulls are dealt with before: none of them is given None.
"""

import ctypes
import math

import numpy as np

from my_platform.features.declaration import FeatureError

INFINITY = float("inf")
# What the processor makes of an undefined operation; Python's own float("nan") may have the other sign.
NAN = INFINITY - INFINITY
# From here on every float is a whole number.
_WHOLE = 2.0**52


def by_zero(numerator: float, zero: float) -> float:
    """numerator ÷ ±0."""
    if numerator == 0.0 or numerator != numerator:
        return NAN if numerator == 0.0 else numerator
    return math.copysign(INFINITY, numerator) * math.copysign(1.0, zero)


def wrapped(value: int, bits: int) -> int:
    """A whole number cut to a signed integer of so many bits."""
    half = 1 << bits - 1
    return (value + half & (1 << bits) - 1) - half


def single(value: float) -> float:
    """The nearest float of 32 bits."""
    return ctypes.c_float(value).value


def single_of_integer(value: int) -> float:
    """The nearest float of 32 bits, in one rounding: by way of 64 bits it would be two."""
    return float(np.int64(value).astype(np.float32))


def floor(value: float) -> float:
    return math.copysign(math.floor(value), value) if -_WHOLE < value < _WHOLE else value


def ceil(value: float) -> float:
    return math.copysign(math.ceil(value), value) if -_WHOLE < value < _WHOLE else value


def half_to_even(value: float) -> float:
    return math.copysign(round(value), value) if -_WHOLE < value < _WHOLE else value


def half_away(value: float) -> float:
    """The nearest whole number; of two equally near ones that further from zero."""
    if not -_WHOLE < value < _WHOLE:
        return value
    size = abs(value)
    below = math.floor(size)
    return math.copysign(below + (size - below >= 0.5), value)


def square_root(value: float) -> float:
    return math.sqrt(value) if value >= 0.0 else value if value != value else NAN


def least(one: float, other: float) -> float:
    """The lesser one, the other where they are equal or one is not a number."""
    return one if one < other or other != other else other


def greatest(one: float, other: float) -> float:
    """The greater one, the other where they are equal or one is not a number."""
    return one if one > other or other != other else other


def whole(value: float, bits: int) -> int | None:
    """A float cut to a signed integer, None where it does not fit."""
    if not -INFINITY < value < INFINITY:
        return None
    return in_range(int(value), bits)


def in_range(value: int, bits: int) -> int | None:
    """A whole number, None where a signed integer of so many bits does not hold it."""
    half = 1 << bits - 1
    return value if -half <= value < half else None


def strictly(found: float | None, value: float, where: str) -> float:
    """A cast's result; raises FeatureError where the value does not fit."""
    if found is None:
        raise FeatureError(f"{where}: {value!r} does not fit the type that it is cast to")
    return found
