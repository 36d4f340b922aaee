"""Lines of Python for the parts of row expressions: types, constants, casts, arithmetic and comparisons.

Each method gives a value for values, and writes the line that computes it. What polars 2.1 would compute
otherwise, or in a type that is not known to be exact, is refused by name.
"""

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from my_platform.features import kernels
from my_platform.features.declaration import FeatureError, UnsteadyFeature
from my_platform.features.timeline import UNITS_PER_SECOND

BITS: dict[type[pl.DataType], int] = {pl.Int8: 8, pl.Int16: 16, pl.Int32: 32, pl.Int64: 64}
_HELD_BITS: dict[type[pl.DataType], int] = {pl.Boolean: 1, pl.Date: 32, pl.Datetime: 64, **BITS}
NUMBERS: tuple[type[pl.DataType], ...] = (*BITS, pl.Float32, pl.Float64)
SUPPORTED: tuple[type[pl.DataType], ...] = (*NUMBERS, pl.Boolean, pl.String, pl.Date, pl.Datetime)
_SIGNS = {"Plus": "+", "Minus": "-", "Multiply": "*", "FloorDivide": "//", "Modulus": "%"}
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True)
class Value:
    """A part of an expression: the Python text that stands for it, and what is known of it.

    The text is a name or a constant. Nulls are None, dates are days and datetimes ticks of their unit since
    1970. `dtype` is Null for a constant whose type its surroundings decide. `uniform` is what polars may hold as one
    value for all rows, depending on them: a choice with a constant branch. Its kernels for one value round otherwise.
    """

    text: str
    dtype: pl.DataType
    nullable: bool = False
    constant: bool = False
    uniform: bool = False


NULL = Value("None", pl.Null(), nullable=True, constant=True)


class RowCode:
    """Lines of Python, and the column that they are written for."""

    def __init__(self, owner: str) -> None:
        self.lines: list[str] = []
        self.where = owner
        self._names: dict[str, str] = {}

    def refused(self, what: str, instead: str) -> FeatureError:
        return FeatureError(f"{self.where}: {what} has no exact online form; {instead}")

    def line(
        self,
        text: str,
        dtype: pl.DataType,
        reads: Sequence[Value] = (),
        *,
        nullable: bool = False,
        uniform: bool = False,
    ) -> Value:
        """Write a line, equal ones once; where one of the values that it reads is null, so is its own."""
        nulls = nulls_of(reads)
        text = f"None if {nulls} else {text}" if nulls else text
        if text not in self._names:
            self._names[text] = f"v{len(self.lines)}"
            self.lines.append(f"{self._names[text]} = {text}")
        all_uniform = any(value.uniform for value in reads) and all(
            value.uniform or value.constant for value in reads
        )
        return Value(
            self._names[text], dtype, nullable=bool(nulls) or nullable, uniform=uniform or all_uniform
        )

    def constant(self, value: Value, dtype: pl.DataType) -> Value:
        """A constant in a type."""
        if value.text == "None":
            return Value("None", dtype, nullable=True, constant=True)
        number = ast.literal_eval(value.text)
        kind = type(number)
        fits = {
            int: dtype in NUMBERS,
            float: dtype in (pl.Float32, pl.Float64),
            bool: dtype == pl.Boolean,
            str: dtype == pl.String,
        }
        if not fits[kind] or (dtype in BITS and kernels.in_range(number, BITS[type(dtype)]) is None):
            raise self.refused(
                f"the constant {value.text} as {dtype}", "write a constant of the column's own type"
            )
        if dtype in (pl.Float32, pl.Float64):
            number = kernels.single(float(number)) if dtype == pl.Float32 else float(number)
        return Value(repr(number), dtype, constant=True)

    def common(self, value: Value, dtype: pl.DataType, *, mixed: bool = False) -> Value:
        """The value in the type that polars computes in.

        With `mixed` an integer stays one beside a float: Python converts it there as polars does.
        """
        if value.constant:
            return self.constant(value, dtype)
        if value.dtype == dtype or (value.dtype in BITS and dtype in BITS):
            return replace(value, dtype=dtype)
        if dtype == pl.Float64 and value.dtype in NUMBERS:
            return value if mixed and value.dtype in BITS else self.cast(value, dtype, strict=True)
        raise self.refused(f"{value.dtype} in a computation in {dtype}", "cast it to Float64 or Int64 first")

    def cast(self, value: Value, dtype: pl.DataType, *, strict: bool) -> Value:
        source, text = value.dtype, value.text
        if source == dtype:
            return value
        match dtype:
            case pl.Float64() if source == pl.Float32:
                return replace(value, dtype=dtype)
            case pl.Float64() if source in BITS or source == pl.Boolean:
                return self.line(f"float({text})", dtype, [value])
            case pl.Float32() if source in BITS or source == pl.Boolean:
                return self.line(f"single_of_integer({text})", dtype, [value])
            case pl.Float32() if source == pl.Float64:
                return self.line(f"single({text})", dtype, [value])
            case pl.Boolean() if source in NUMBERS:
                return self.line(f"{text} != 0", dtype, [value])
            case pl.Date() if isinstance(source, pl.Datetime):
                return self.line(f"{text} // {86_400 * UNITS_PER_SECOND[source.time_unit]}", dtype, [value])
        bits = BITS.get(type(dtype), 0)
        held = _HELD_BITS.get(type(source), 65)
        if bits >= held:
            return self.line(f"int({text})", dtype, [value]) if held == 1 else replace(value, dtype=dtype)
        if not bits or source not in NUMBERS:
            raise self.refused(f"a cast of {source} to {dtype}", "cast numbers and booleans to numbers")
        found = f"{'in_range' if source in BITS else 'whole'}({text}, {bits})"
        if strict:
            return self.line(f"strictly({found}, {text}, {self.where!r})", dtype, [value])
        return self.line(found, dtype, [value], nullable=True)

    def arithmetic(self, operator: str, one: Value, other: Value, dtype: pl.DataType) -> Value:
        floats = dtype in (pl.Float64, pl.Float32)
        if (
            floats
            and operator != "Multiply"
            and (other.uniform or (one.uniform and operator != "TrueDivide"))
        ):
            # Where every row takes that branch polars 2.1 holds one value for all, and multiplies by its reciprocal.
            raise UnsteadyFeature(
                f"{self.where}: {operator} of a choice that has a constant branch depends on the rows beside a row; "
                "choose between the results: when(...).then(a / b).otherwise(a / 2.5)"
            )
        if (
            dtype == pl.Float64
            and pl.Null in (one.dtype, other.dtype)
            and pl.Float32 in (one.dtype, other.dtype)
        ):
            # polars 2.1 says Float64 of a constant ÷ Float32, and computes it in 32 bits.
            raise self.refused("a constant divided by Float32", "cast the divisor to Float64")
        if operator == "TrueDivide" and floats:
            return self._division(self.common(one, dtype), other, dtype)
        if dtype in BITS and operator in _SIGNS:
            one, other = self.common(one, dtype), self.common(other, dtype)
            found = f"{one.text} {_SIGNS[operator]} {other.text}"
            if operator in ("Plus", "Minus", "Multiply"):
                return self.line(self.wrapped(found, dtype), dtype, [one, other])
            if other.constant and other.text not in ("None", "0", "-1"):
                return self.line(found, dtype, [one])
            found = f"{self.wrapped(found, dtype)} if {other.text} else None"
            return self.line(found, dtype, [one, other], nullable=True)
        if operator in ("Plus", "Minus", "Multiply") and floats:
            return self._float_arithmetic(
                operator, self.common(one, dtype, mixed=True), self.common(other, dtype, mixed=True), dtype
            )
        raise self.refused(
            f"{operator} of {one.dtype} and {other.dtype}",
            "cast both to Float64; // and % take integers, and the whole part of a float is its floor",
        )

    def _division(self, one: Value, other: Value, dtype: pl.DataType) -> Value:
        other = self.common(other, dtype, mixed=True)
        if not other.constant or other.text == "None":
            quotient = f"{one.text} / {other.text} if {other.text} else by_zero({one.text}, {other.text})"
            return self.line(self.rounded(quotient, dtype), dtype, [one, other])
        divisor = float(other.text)
        inverse = 1.0 / divisor if divisor else math.copysign(math.inf, divisor)
        if dtype == pl.Float32:
            inverse = kernels.single(inverse)
        text = repr(inverse) if math.isfinite(inverse) else f"({'-' if inverse < 0 else ''}INFINITY)"
        return self._float_arithmetic("Multiply", one, Value(text, dtype, constant=True), dtype)

    def _float_arithmetic(self, operator: str, one: Value, other: Value, dtype: pl.DataType) -> Value:
        # polars takes a constant 0 for no change at all, which keeps the sign of a zero.
        if operator != "Multiply" and other.text in ("0.0", "-0.0"):
            return self.cast(one, dtype, strict=True)
        if operator != "Multiply" and one.text in ("0.0", "-0.0"):
            other = self.cast(other, dtype, strict=True)
            return self.line(f"-{other.text}", dtype, [other]) if operator == "Minus" else other
        return self.line(
            self.rounded(f"{one.text} {_SIGNS[operator]} {other.text}", dtype), dtype, [one, other]
        )

    def compared(self, sign: str, one: Value, other: Value, *, missing: bool = False) -> Value:
        """A comparison; with `missing` null is equal to null and to nothing else."""
        if one.constant:
            return self.compared(_MIRRORED[sign], other, one, missing=missing)
        dtype = self._compared_in(one, other)
        one, other = self.common(one, dtype), self.common(other, dtype)
        a, b = one.text, other.text
        test = f"{a} {sign} {b}"
        if dtype in (pl.Float64, pl.Float32):
            # What is not a number is equal to itself and above all numbers.
            test = {
                "==": test if other.constant else f"{test} or ({a} != {a} and {b} != {b})",
                "!=": test if other.constant else f"{test} and ({a} == {a} or {b} == {b})",
                ">": f"{test} or {a} != {a}" if other.constant else f"{test} or ({a} != {a} and {b} == {b})",
                ">=": f"{test} or {a} != {a}",
                "<": test if other.constant else f"{test} or ({b} != {b} and {a} == {a})",
                "<=": test if other.constant else f"{test} or {b} != {b}",
            }[sign]
        nulls = nulls_of([one, other])
        if not missing or not nulls:
            return self.line(test, pl.Boolean(), [one, other])
        missing_differ = (
            str(sign != "==")
            if other.constant and b != "None"
            else f"{a} {'is' if sign == '==' else 'is not'} {b}"
        )
        return self.line(f"({missing_differ}) if {nulls} else {test}", pl.Boolean())

    def _compared_in(self, one: Value, other: Value) -> pl.DataType:
        types = [one.dtype, other.dtype]
        if types[1] == pl.Null:
            if types[0] in BITS:
                is_float = isinstance(ast.literal_eval(other.text), float)
                return pl.Float64() if is_float else pl.Int64()
            return types[0]
        if types[0] == types[1]:
            return types[0]
        if all(each in BITS for each in types):
            return pl.Int64()
        if pl.Float64 in types and all(each in NUMBERS for each in types):
            return pl.Float64()
        raise self.refused(f"a comparison of {types[0]} with {types[1]}", "cast both to one type")

    def logical(self, operator: str, values: Sequence[Value]) -> Value:
        """And, Or, Xor of three truth values: true, false and null."""
        values = [self.constant(value, pl.Boolean()) if value.constant else value for value in values]
        if any(value.dtype != pl.Boolean for value in values):
            raise self.refused(f"{operator} of other than booleans", "compare with a constant first")
        if operator == "Xor":
            return self.line(f"{values[0].text} is not {values[1].text}", pl.Boolean(), values)
        decides, otherwise = ("False", "True") if operator == "And" else ("True", "False")
        found, nulls = " or ".join(f"{value.text} is {decides}" for value in values), nulls_of(values)
        rest = f"None if {nulls} else {otherwise}" if nulls else otherwise
        return self.line(f"{decides} if {found} else {rest}", pl.Boolean(), nullable=bool(nulls))

    def clock(self, value: Value, seconds: int, modulus: int) -> Value:
        """So many seconds counted from 1970 on, within a greater span: the hour is 3600 seconds within 24."""
        return self.line(f"{value.text} // {seconds * ticks_of(value)} % {modulus}", pl.Int8(), [value])

    def weekday(self, value: Value) -> Value:
        days = self.cast(value, pl.Date(), strict=True)
        # 1970 began on a Thursday, weekday 4.
        return self.line(f"({days.text} + 3) % 7 + 1", pl.Int8(), [days])

    def timestamp(self, value: Value, wanted: int) -> Value:
        """Since 1970, in a unit of which there are so many in a second."""
        held = ticks_of(value)
        if held >= wanted:
            return self.line(f"{value.text} // {held // wanted}", pl.Int64(), [value])
        return self.line(self.wrapped(f"{value.text} * {wanted // held}", pl.Int64()), pl.Int64(), [value])

    def wrapped(self, text: str, dtype: pl.DataType) -> str:
        bits = BITS[type(dtype)]
        half = 1 << bits - 1
        return f"(_ if {-half} <= (_ := {text}) < {half} else wrapped(_, {bits}))"

    def rounded(self, text: str, dtype: pl.DataType) -> str:
        return f"single({text})" if dtype == pl.Float32 else text


def ticks_of(value: Value) -> int:
    """How many ticks of a datetime make a second."""
    assert isinstance(value.dtype, pl.Datetime)
    return UNITS_PER_SECOND[value.dtype.time_unit]


def nulls_of(values: Sequence[Value]) -> str:
    """The text that tells whether one of the values is null, empty where none can be."""
    return " or ".join(dict.fromkeys(f"{value.text} is None" for value in values if value.nullable))
