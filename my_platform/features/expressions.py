"""Row expressions compiled to Python: one function over one row's values, without a data-frame engine.

An expression is read as the syntax tree that polars 2.1 writes of it, each part's type is polars' own answer,
and the parts become lines of Python, equal parts one line. What the lines compute is bit for bit what
`my_platform.features.columns` gives, the reciprocal of a constant divisor included; only which bits a result that
is not a number has is left open, as IEEE 754 does. What cannot be had exactly is refused.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from my_platform.features.declaration import FeatureError
from my_platform.features.row_code import (
    BITS,
    NULL,
    NUMBERS,
    SUPPORTED,
    RowCode,
    Value,
)

COMPARISONS = {"Eq": "==", "NotEq": "!=", "Lt": "<", "LtEq": "<=", "Gt": ">", "GtEq": ">="}
_MISSING = {"EqValidity": "==", "NotEqValidity": "!="}
_TICKS = {"Milliseconds": 10**3, "Microseconds": 10**6, "Nanoseconds": 10**9}
_ROUNDINGS = {"Floor": "floor", "Ceil": "ceil", "HalfToEven": "half_to_even", "HalfAwayFromZero": "half_away"}
# Divisor and modulus that give the hour, minute or second of a number of seconds.
_CLOCK = {"Hour": (3_600, 24), "Minute": (60, 60), "Second": (1, 60)}
_USE = (
    "use + - * /, // and % of integers, comparisons, & | ~ ^, when/then/otherwise, cast, abs, floor, ceil, round, "
    "sqrt, clip, min_horizontal, max_horizontal, is_null, is_nan, is_finite, is_between, fill_null, coalesce, "
    "dt.hour, dt.weekday, dt.date or dt.epoch"
)

Node = dict[str, Any]


class Program:
    """The lines that compute the expressions of one feature set, in the order in which they are added."""

    def __init__(self, owner: str, columns: Mapping[str, Value]) -> None:
        """What the expressions may read, by column; the values' texts are names that the caller chose."""
        self.code = RowCode(owner)
        self.columns = dict(columns)
        self.read: set[str] = set()
        self._owner = owner
        self._known: dict[str, Value] = {}
        self._schema = pl.LazyFrame(schema={name: value.dtype for name, value in columns.items()})

    @property
    def lines(self) -> list[str]:
        return self.code.lines

    def add(self, column: str, expression: pl.Expr) -> Value:
        """Write what computes the expression; raises FeatureError, naming column and part, where that is not exact."""
        self.code.where = f"feature set {self._owner}, column {column}"
        node = json.loads(expression.meta.serialize(format="json"))
        value = self._value(node)
        if value.constant:
            return self.code.line(
                self.code.constant(value, self._type(node)).text, self._type(node), nullable=value.nullable
            )
        return value

    def derive(self, derived: Mapping[str, pl.Expr]) -> None:
        """Write columns that the expressions added from now on may read; they do not read one another."""
        self.give({name: self.add(name, expression) for name, expression in derived.items()})

    def give(self, values: Mapping[str, Value]) -> None:
        """Let the expressions added from now on read these columns too."""
        self.columns |= {name: replace(value, uniform=False) for name, value in values.items()}
        self._schema = pl.LazyFrame(schema={name: value.dtype for name, value in self.columns.items()})
        self._known.clear()

    def _value(self, node: Node) -> Value:
        key = json.dumps(node)
        if key not in self._known:
            ((kind, parts),) = node.items()
            self._known[key] = self._written(kind, parts, node)
        return self._known[key]

    def _written(self, kind: str, parts: Any, node: Node) -> Value:
        match kind:
            case "Column":
                return self._column(parts)
            case "Alias":
                return self._value(parts[0])
            case "Literal":
                return self._literal(parts)
            case "Cast":
                return self._cast(self._value(parts["expr"]), self._type(node), parts["options"])
            case "BinaryExpr":
                return self._binary(
                    parts["op"], self._value(parts["left"]), self._value(parts["right"]), node
                )
            case "Ternary":
                return self._ternary(parts, self._type(node))
            case "Function":
                return self._function(parts, node)
        raise self.code.refused(f"the part {kind}", _USE)

    def _type(self, node: Node) -> pl.DataType:
        """The type that polars gives to a part."""
        try:
            part = pl.Expr.deserialize(json.dumps(node).encode(), format="json")
            return self._schema.select(part.alias("part")).collect_schema()["part"]
        except pl.exceptions.PolarsError as error:
            raise FeatureError(f"{self.code.where}: {error}") from error

    def _column(self, name: str) -> Value:
        if name not in self.columns:
            raise FeatureError(
                f"{self.code.where}: there is no column or aggregate {name} among {list(self.columns)}"
            )
        value = self.columns[name]
        self.read.add(name)
        zoned = isinstance(value.dtype, pl.Datetime) and value.dtype.time_zone not in (None, "UTC")
        if value.dtype not in SUPPORTED or zoned:
            raise self.code.refused(
                f"the column {name} of type {value.dtype}",
                "give it as Int64, Float64, Boolean, String or UTC datetime",
            )
        return value

    def _literal(self, parts: Node) -> Value:
        ((form, typed),) = parts.items()
        if form not in ("Dyn", "Scalar"):
            raise self.code.refused(f"a constant {form}", "write a number, a boolean or a string")
        ((kind, value),) = typed.items()
        if (form, kind) == ("Scalar", "Null"):
            return NULL
        dtype: Any = pl.Null if form == "Dyn" else getattr(pl, kind, None)
        if dtype not in (pl.Null, *NUMBERS, pl.Boolean, pl.String):
            raise self.code.refused(f"a constant of type {kind}", "write a number, a boolean or a string")
        if value is None:
            raise self.code.refused(
                "an infinite constant or not a number", "use is_finite, is_infinite or is_nan"
            )
        free = Value(repr(value), pl.Null(), constant=True)
        return free if dtype == pl.Null else self.code.constant(free, dtype())

    def _cast(self, value: Value, dtype: pl.DataType, options: str) -> Value:
        if options not in ("Strict", "NonStrict"):
            raise self.code.refused(f"a cast with {options}", "cast with strict=True or strict=False")
        if not value.constant:
            return self.code.cast(value, dtype, strict=options == "Strict")
        return self.code.constant(value, dtype)

    def _binary(self, operator: str, one: Value, other: Value, node: Node) -> Value:
        if one.constant and other.constant:
            raise self.code.refused(f"{operator} of two constants", "write the constant that it gives")
        if operator in ("And", "Or", "Xor", "LogicalAnd", "LogicalOr"):
            return self.code.logical(operator.removeprefix("Logical"), [one, other])
        if operator in COMPARISONS:
            return self.code.compared(COMPARISONS[operator], one, other)
        if operator in _MISSING:
            return self.code.compared(_MISSING[operator], one, other, missing=True)
        return self.code.arithmetic(operator, one, other, self._type(node))

    def _ternary(self, parts: Node, dtype: pl.DataType) -> Value:
        test = self._operand(parts["predicate"], pl.Boolean)
        one, other = (self.code.common(self._value(parts[name]), dtype) for name in ("truthy", "falsy"))
        return self.code.line(
            f"{one.text} if {test.text} else {other.text}",
            dtype,
            nullable=one.nullable or other.nullable,
            uniform=_may_be_uniform(one, other),
        )

    def _operand(self, node: Node, *dtypes: type[pl.DataType]) -> Value:
        """A function's argument: not a constant, and of one of the types, where any are given."""
        value = self._value(node)
        if value.constant:
            raise self.code.refused("a function of a constant alone", "write the constant that it gives")
        if dtypes and value.dtype not in dtypes:
            names = " or ".join(str(dtype) for dtype in dtypes)
            raise self.code.refused(f"{value.dtype} where {names} is expected", "cast it or compare it first")
        return value

    def _function(self, parts: Node, node: Node) -> Value:
        name, options, family = parts["function"], None, ""
        while isinstance(name, dict):
            ((name, options),) = name.items()
            if name in ("Boolean", "TemporalExpr", "Pow"):
                family, name, options = f"{name} ", options, None
        written = self._FUNCTIONS.get(name)
        if written is None:
            raise self.code.refused(f"the function {family}{name}", _USE)
        return written(self, name, parts["input"], options, node)

    def _of_null(self, name: str, inputs: Sequence[Node], _: Any, node: Node) -> Value:
        value = self._operand(inputs[0])
        test = f"{value.text} is {'' if name == 'IsNull' else 'not '}None"
        return self.code.line(test if value.nullable else str(name != "IsNull"), pl.Boolean())

    def _of_float(self, name: str, inputs: Sequence[Node], _: Any, node: Node) -> Value:
        value = self._operand(inputs[0], *NUMBERS)
        finite = f"-INFINITY < {value.text} < INFINITY"
        test = {
            "IsNan": f"{value.text} != {value.text}",
            "IsNotNan": f"{value.text} == {value.text}",
            "IsFinite": finite,
            "IsInfinite": f"not ({finite} or {value.text} != {value.text})",
        }[name]
        return self.code.line(test, pl.Boolean(), [value])

    def _not(self, name: str, inputs: Sequence[Node], _: Any, node: Node) -> Value:
        value = self._operand(inputs[0], pl.Boolean)
        return self.code.line(f"not {value.text}", pl.Boolean(), [value])

    def _horizontal(self, name: str, inputs: Sequence[Node], _: Any, node: Node) -> Value:
        values = [self._value(each) for each in inputs]
        if all(value.constant for value in values):
            raise self.code.refused(f"{name} of constants alone", "write the constant that it gives")
        if name in ("AllHorizontal", "AnyHorizontal"):
            return self.code.logical("And" if name == "AllHorizontal" else "Or", values)
        dtype = self._type(node)
        values = [self.code.common(value, dtype) for value in values]
        if name in ("MinHorizontal", "MaxHorizontal") and dtype not in NUMBERS:
            raise self.code.refused(f"{name} of {dtype}", "compare with when/then/otherwise")
        found = values[0]
        for value in values[1:]:
            a, b = found.text, value.text
            if name in ("Coalesce", "FillNull"):
                if not found.nullable:
                    break
                found = self.code.line(
                    f"{b} if {a} is None else {a}",
                    dtype,
                    nullable=value.nullable,
                    uniform=_may_be_uniform(found, value),
                )
                continue
            kernel = "least" if name == "MinHorizontal" else "greatest"
            chosen = f"{kernel}({a}, {b})"
            for each, other in ((found, b), (value, a)):
                chosen = f"{other} if {each.text} is None else {chosen}" if each.nullable else chosen
            found = self.code.line(
                chosen,
                dtype,
                nullable=found.nullable and value.nullable,
                uniform=found.uniform or value.uniform,
            )
        return found

    def _between(self, name: str, inputs: Sequence[Node], options: Any, node: Node) -> Value:
        value, low, high = self._operand(inputs[0]), self._value(inputs[1]), self._value(inputs[2])
        closed = options["closed"]
        above = self.code.compared(">=" if closed in ("Both", "Left") else ">", value, low)
        below = self.code.compared("<=" if closed in ("Both", "Right") else "<", value, high)
        return self.code.logical("And", [above, below])

    def _signed(self, name: str, inputs: Sequence[Node], _: Any, node: Node) -> Value:
        value = self._operand(inputs[0], *NUMBERS)
        text = f"abs({value.text})" if name == "Abs" else f"-{value.text}"
        text = self.code.wrapped(text, value.dtype) if value.dtype in BITS else text
        return self.code.line(text, value.dtype, [value])

    def _rounding(self, name: str, inputs: Sequence[Node], options: Any, node: Node) -> Value:
        if options and options["decimals"]:
            raise self.code.refused(
                f"round to {options['decimals']} decimals", "round to cents by (x * 100).round() / 100"
            )
        value = self._operand(inputs[0], *NUMBERS)
        kernel = _ROUNDINGS.get(options["mode"] if options else name)
        if kernel is None:
            raise self.code.refused(
                f"round with {options['mode']}", "round with half_to_even or half_away_from_zero"
            )
        return (
            value if value.dtype in BITS else self.code.line(f"{kernel}({value.text})", value.dtype, [value])
        )

    def _square_root(self, name: str, inputs: Sequence[Node], _: Any, node: Node) -> Value:
        value, dtype = self._operand(inputs[0], *NUMBERS), self._type(node)
        return self.code.line(self.code.rounded(f"square_root({value.text})", dtype), dtype, [value])

    def _clip(self, name: str, inputs: Sequence[Node], options: Any, node: Node) -> Value:
        value = self._operand(inputs[0], *NUMBERS)
        bounds = [self._value(each) for each in inputs[1:]]
        if any(not bound.constant or bound.text == "None" for bound in bounds):
            raise self.code.refused("clip by other than constants", "use min_horizontal and max_horizontal")
        texts = iter([self.code.constant(bound, value.dtype).text for bound in bounds])
        for present, sign in ((options["has_min"], "<"), (options["has_max"], ">")):
            if present:
                bound = next(texts)
                value = self.code.line(
                    f"{bound} if {value.text} {sign} {bound} else {value.text}", value.dtype, [value]
                )
        return value

    def _clock(self, name: str, inputs: Sequence[Node], _: Any, node: Node) -> Value:
        return self.code.clock(self._operand(inputs[0], pl.Datetime), *_CLOCK[name])

    def _weekday(self, name: str, inputs: Sequence[Node], _: Any, node: Node) -> Value:
        return self.code.weekday(self._operand(inputs[0], pl.Datetime, pl.Date))

    def _date(self, name: str, inputs: Sequence[Node], _: Any, node: Node) -> Value:
        return self.code.cast(self._operand(inputs[0], pl.Datetime, pl.Date), pl.Date(), strict=True)

    def _timestamp(self, name: str, inputs: Sequence[Node], options: Any, node: Node) -> Value:
        return self.code.timestamp(self._operand(inputs[0], pl.Datetime), _TICKS[options])

    _FUNCTIONS: Mapping[str, Callable[..., Value]] = {
        **dict.fromkeys(("IsNull", "IsNotNull"), _of_null),
        **dict.fromkeys(("IsNan", "IsNotNan", "IsFinite", "IsInfinite"), _of_float),
        **dict.fromkeys(
            ("AllHorizontal", "AnyHorizontal", "MinHorizontal", "MaxHorizontal", "Coalesce", "FillNull"),
            _horizontal,
        ),
        **dict.fromkeys(("Abs", "Negate"), _signed),
        **dict.fromkeys(("Floor", "Ceil", "Round"), _rounding),
        **dict.fromkeys(_CLOCK, _clock),
        "Not": _not,
        "IsBetween": _between,
        "Sqrt": _square_root,
        "Clip": _clip,
        "WeekDay": _weekday,
        "Date": _date,
        "TimeStamp": _timestamp,
    }


def _may_be_uniform(*branches: Value) -> bool:
    """Whether polars may hold a choice of these as one value; as one null it computes as it does with many."""
    return any(each.uniform or (each.constant and each.text != "None") for each in branches)
