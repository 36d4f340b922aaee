"""The Python source of a feature set's online form: what an event adds to a state, and what a row reads from it.

Every name in the source is made here and every text of the declaration stands in it as a constant, so that it
holds no code but what this package writes.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from my_platform.features import kernels
from my_platform.features.declaration import SECONDS_PER_DAY, Aggregate, Condition, FeatureError, FeatureSet
from my_platform.features.expressions import Program
from my_platform.features.offline import COMPARISONS, MAX_INTEGER, MAX_SQUARED
from my_platform.features.row_code import BITS, Value
from my_platform.features.timeline import UNITS_PER_SECOND

Where = tuple[Condition, ...]


@dataclass(frozen=True)
class Layout:
    """The lists that a state holds beside its events, and what fills them, by their number.

    `prefixes` have a value before each event and one after the last, of counts and sums. `kept` hold one for
    each event that the count of the given number takes.
    """

    prefixes: tuple[int, ...]
    kept: Mapping[int, int]

    @property
    def lists(self) -> int:
        return len(self.prefixes) + len(self.kept)


@dataclass
class _Lists:
    """Numbers of the lists, by what they hold, as the aggregates ask for them."""

    numbers: dict[tuple[str, Where, str | None], int] = field(default_factory=dict)

    def number(self, content: str, where: Where, column: str | None) -> int:
        return self.numbers.setdefault((content, where, column), len(self.numbers))

    def layout(self) -> Layout:
        kept = {
            number: self.numbers["count", where, column]
            for (content, where, column), number in self.numbers.items()
            if content in ("values", "times")
        }
        return Layout(tuple(number for number in self.numbers.values() if number not in kept), kept)


def seconds_of(table: str, schema: Mapping[str, pl.DataType], column: str) -> int:
    """How many ticks of a time column make a second; raises FeatureError where it holds no UTC datetimes."""
    dtype = schema.get(column)
    if not isinstance(dtype, pl.Datetime) or dtype.time_zone not in (None, "UTC"):
        raise FeatureError(f"{table}, column {column}: expected UTC datetimes, found {dtype}")
    return UNITS_PER_SECOND[dtype.time_unit]


def source_of(
    feature_set: FeatureSet, rows: Mapping[str, pl.DataType], events: Mapping[str, pl.DataType]
) -> tuple[str, Layout, tuple[str, ...], dict[str, pl.DataType]]:
    """The source of `append(state, second, values)` and `score(state, row)`.

    Also what lists they share, the event columns that `values` holds, and the features' types.
    """
    lists = _Lists()
    score, types = _score(feature_set, rows, lists)
    append, columns = _append(feature_set, events, lists)
    return f"{append}\n\n{score}\n", lists.layout(), columns, types


def environment(feature_set: FeatureSet) -> dict[str, Any]:
    """The names that the source may use."""

    def beyond(name: str) -> int:
        raise FeatureError(
            f"{feature_set.name}, aggregate {name}: a total exceeds 64 bits; derive a coarser unit"
        )

    def beyond_squares(column: str) -> int:
        raise FeatureError(f"{feature_set.name}: a square of {column} exceeds 64 bits; derive a coarser unit")

    found = {name: each for name, each in vars(kernels).items() if callable(each) or isinstance(each, float)}
    builtins = {each.__name__: each for each in (abs, int, float, max, min, len)}
    return {
        **found,
        "__builtins__": builtins,
        "bisect_right": bisect_right,
        "beyond": beyond,
        "beyond_squares": beyond_squares,
    }


def _append(
    feature_set: FeatureSet, schema: Mapping[str, pl.DataType], lists: _Lists
) -> tuple[str, tuple[str, ...]]:
    inputs = _inputs(schema)
    program = Program(feature_set.name, inputs)
    program.derive(feature_set.event_derive)
    selections: dict[tuple[Where, str | None], dict[str, int]] = {}
    for (content, where, column), number in lists.numbers.items():
        selections.setdefault((where, column), {})[content] = number
    refusals, steps = [], []
    for (where, column), contents in selections.items():
        tests = [_test(feature_set, program, condition) for condition in where]
        value = _aggregated(feature_set, program, column) if column is not None else None
        if value is not None and value.nullable:
            tests.append(f"{value.text} is not None")
        test = " and ".join(tests) or "True"
        if value is not None and "squares" in contents:
            within = f"-{MAX_SQUARED} <= {value.text} <= {MAX_SQUARED}"
            refusals += [f"if {test} and not {within}:", f" beyond_squares({column!r})"]
        steps += _steps(contents, test, value)
    columns = tuple(name for name in schema if name in program.read)
    names = [inputs[name].text for name in columns]
    lines = [
        f"({', '.join(names)},) = values" if names else "",
        f"({', '.join(f'l{number}' for number in range(len(lists.numbers)))},) = state.lists"
        if lists.numbers
        else "",
        *program.lines,
        # What may be refused comes first, so that a refused event leaves no trace.
        *refusals,
        *steps,
    ]
    return _function("append(state, second, values)", lines), columns


def _steps(contents: Mapping[str, int], test: str, value: Value | None) -> list[str]:
    """What one event adds to the lists of one selection of events."""
    text = value.text if value is not None else "second"
    added = {"count": "1", "sum": text, "squares": f"{text} * {text}"}
    taken = [f"l{n}.append(l{n}[-1] + {added[name]})" for name, n in contents.items() if name in added]
    taken += [f"l{n}.append({text})" for name, n in contents.items() if name in ("values", "times")]
    left = [f"l{n}.append(l{n}[-1])" for name, n in contents.items() if name in added]
    lines = [f"if {test}:", *(f" {line}" for line in taken)]
    return [*lines, "else:", *(f" {line}" for line in left)] if left else lines


def _test(feature_set: FeatureSet, program: Program, condition: Condition) -> str:
    column, table = condition.column, feature_set.events
    if column not in program.columns:
        raise FeatureError(f"{table}: there is no column {column} among {list(program.columns)}")
    dtype = program.columns[column].dtype
    fits = {bool: dtype == pl.Boolean, str: dtype == pl.String, int: dtype.is_integer()}
    if not fits[type(condition.value)]:
        raise FeatureError(f"{table}, column {column}: it is {dtype}, which {condition} cannot test")
    return program.add(
        f"condition on {column}", COMPARISONS[condition.operator](pl.col(column), condition.value)
    ).text


def _aggregated(feature_set: FeatureSet, program: Program, column: str) -> Value:
    if column not in program.columns:
        raise FeatureError(f"{feature_set.events}: there is no column {column} among {list(program.columns)}")
    value = program.add(column, pl.col(column))
    if value.dtype not in BITS:
        raise FeatureError(
            f"{feature_set.events}, column {column}: only integers are aggregated, found {value.dtype}; derive "
            f"an integer column such as cents"
        )
    return value


def _score(
    feature_set: FeatureSet, schema: Mapping[str, pl.DataType], lists: _Lists
) -> tuple[str, dict[str, pl.DataType]]:
    ticks = seconds_of(feature_set.rows, schema, feature_set.time)
    inputs = _inputs(schema, {feature_set.time, feature_set.order, feature_set.entity})
    if clash := sorted(set(feature_set.aggregates) & {*schema, *feature_set.derive}):
        raise FeatureError(
            f"{feature_set.name}: {clash} are both aggregates and columns of {feature_set.rows}; rename the aggregates"
        )
    windows = _Windows(feature_set, lists)
    aggregates = {name: windows.aggregate(name, each) for name, each in feature_set.aggregates.items()}
    program = Program(feature_set.name, inputs)
    program.derive(feature_set.derive)
    program.give(aggregates)
    results = {name: program.add(name, each) for name, each in feature_set.columns.items()}
    read = program.read | {feature_set.time, *([feature_set.order] if windows.uses_own else [])}
    used = " ".join(windows.lines)
    lines = [
        *(f"{inputs[name].text} = row[{name!r}]" for name in schema if name in read),
        f"t = {inputs[feature_set.time].text} // {ticks}",
        "seconds = state.seconds",
        *(f"l{n} = state.lists[{n}]" for n in range(len(lists.numbers)) if f"l{n}[" in used),
        f"own = state.position_of(t, {inputs[feature_set.order].text})" if windows.uses_own else "",
        *windows.lines,
        *program.lines,
        f"return ({', '.join(value.text for value in results.values())},)",
    ]
    return _function("score(state, row)", lines), {name: value.dtype for name, value in results.items()}


@dataclass
class _Windows:
    """Lines that take the aggregates of a row from the lists of a state, equal parts once."""

    feature_set: FeatureSet
    needed: _Lists
    lines: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    uses_own: bool = False

    def aggregate(self, name: str, aggregate: Aggregate) -> Value:
        where, column = aggregate.where, aggregate.column
        start, end = self._slice(aggregate)
        match aggregate.kind:
            case "total" | "total_squares":
                content = "sum" if aggregate.kind == "total" else "squares"
                number = self.needed.number(content, where, column)
                found = f"l{number}[{end}] - l{number}[{start}]"
                limits = f"{-MAX_INTEGER - 1} <= (_ := {found}) <= {MAX_INTEGER}"
                return Value(self._named(f"_ if {limits} else beyond({name!r})"), pl.Int64())
        times = "seconds"
        if where or column is not None:
            number = self.needed.number("count", where, column)
            start, end = self._named(f"l{number}[{start}]"), self._named(f"l{number}[{end}]")
        if aggregate.kind == "count":
            return Value(self._named(f"{end} - {start}"), pl.Int64())
        if column is not None or where:
            content = "values" if column is not None else "times"
            times = f"l{self.needed.number(content, where, column)}"
        found = {
            "minimum": f"min({times}[{start}:{end}])",
            "maximum": f"max({times}[{start}:{end}])",
            "first": f"{times}[{start}]",
            "first_time": f"{times}[{start}]",
            "last": f"{times}[{end} - 1]",
            "last_time": f"{times}[{end} - 1]",
        }[aggregate.kind]
        return Value(self._named(f"{found} if {end} > {start} else None"), pl.Int64(), nullable=True)

    def _slice(self, aggregate: Aggregate) -> tuple[str, str]:
        """Where the window (t - delay - days, t - delay] starts and ends among the events."""
        start = self._until(aggregate.delay_days + aggregate.days)
        if aggregate.delay_days or not self.feature_set.own_events:
            return start, self._until(aggregate.delay_days)
        self.uses_own = True
        return start, "own" if aggregate.past_only else self._named("own + 1")

    def _until(self, days: int) -> str:
        return self._named(f"bisect_right(seconds, t - {days * SECONDS_PER_DAY})")

    def _named(self, text: str) -> str:
        if text not in self.names:
            self.names[text] = f"a{len(self.names)}"
            self.lines.append(f"{self.names[text]} = {text}")
        return self.names[text]


def _inputs(schema: Mapping[str, pl.DataType], known: set[str] | None = None) -> dict[str, Value]:
    return {
        name: Value(f"c{number}", dtype, nullable=name not in (known or ()))
        for number, (name, dtype) in enumerate(schema.items())
    }


def _function(signature: str, lines: list[str]) -> str:
    return "\n".join([f"def {signature}:", *(f" {line}" for line in lines if line), " pass"])
