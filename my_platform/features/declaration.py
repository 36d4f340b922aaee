"""What a feature is: aggregates over windows of an entity's events, and row expressions over them.

A declaration is plain data. The offline compiler (`my_platform.features.offline`) makes a table of it, the
online compiler a state that is updated event by event; both must give the same values.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import polars as pl

from my_platform.errors import Refused

MAX_WINDOW_DAYS = 90
MAX_DELAY_DAYS = 90
SECONDS_PER_DAY = 86_400

Kind = Literal[
    "count", "total", "total_squares", "minimum", "maximum", "first", "last", "first_time", "last_time"
]
Operator = Literal["==", "!=", "<", "<=", ">", ">="]

KINDS_WITHOUT_COLUMN: frozenset[Kind] = frozenset({"count", "first_time", "last_time"})


class FeatureError(Refused):
    """A declaration, or a table given to it, that cannot be computed; the message says what to change."""


class UnsteadyFeature(FeatureError):
    """An expression whose value for a row may depend on the rows beside it, in the last bit."""


@dataclass(frozen=True)
class Condition:
    """`column operator value`, for example `Condition("RETURNED", "==", True)`.

    The column holds integers, booleans or strings. A null in it does not meet the condition.
    """

    column: str
    operator: Operator
    value: int | bool | str

    def __post_init__(self) -> None:
        if self.operator not in get_args(Operator):
            raise FeatureError(f"{self}: the operator must be one of {', '.join(get_args(Operator))}")
        if not isinstance(self.value, int | str):
            raise FeatureError(
                f"{self}: the value must be an integer, a boolean or a string; compare a float column by "
                f"deriving an integer from it"
            )


Where = Condition | Iterable[Condition]


@dataclass(frozen=True)
class Aggregate:
    """One exact integer over the events of an entity in the window (t - delay - days, t - delay].

    `t` is the time of the row that gets the feature. An event counts if it meets every condition and, for
    the kinds that read a column, is not null there. Without such an event a count or total is 0 and every
    other kind is null. `first_time` and `last_time` are in seconds since 1970-01-01 UTC; `first` and `last`
    take the column's value at the first and last event in (time, order).

    With `past_only` the row itself is left out; it has a meaning only where rows are their own events.
    """

    kind: Kind
    column: str | None
    days: int
    delay_days: int = 0
    where: tuple[Condition, ...] = ()
    past_only: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise FeatureError(f"{self}: the kind must be one of {', '.join(get_args(Kind))}")
        if (self.column is None) != (self.kind in KINDS_WITHOUT_COLUMN):
            raise FeatureError(f"{self}: {self.kind} takes {'no' if self.column else 'a'} column")
        if not isinstance(self.days, int) or not 1 <= self.days <= MAX_WINDOW_DAYS:
            raise FeatureError(f"{self}: a window has 1 to {MAX_WINDOW_DAYS} whole days, not {self.days!r}")
        if not isinstance(self.delay_days, int) or not 0 <= self.delay_days <= MAX_DELAY_DAYS:
            raise FeatureError(
                f"{self}: a delay has 0 to {MAX_DELAY_DAYS} whole days, not {self.delay_days!r}"
            )


def count(*, days: int, where: Where = (), delay_days: int = 0, past_only: bool = False) -> Aggregate:
    """How many events there are."""
    return Aggregate("count", None, days, delay_days, _conditions(where), past_only)


def total(
    column: str, *, days: int, where: Where = (), delay_days: int = 0, past_only: bool = False
) -> Aggregate:
    """The sum of an integer column."""
    return Aggregate("total", column, days, delay_days, _conditions(where), past_only)


def total_squares(
    column: str, *, days: int, where: Where = (), delay_days: int = 0, past_only: bool = False
) -> Aggregate:
    """The sum of the squares of an integer column: with count and total it gives the spread."""
    return Aggregate("total_squares", column, days, delay_days, _conditions(where), past_only)


def minimum(
    column: str, *, days: int, where: Where = (), delay_days: int = 0, past_only: bool = False
) -> Aggregate:
    """The least value of an integer column."""
    return Aggregate("minimum", column, days, delay_days, _conditions(where), past_only)


def maximum(
    column: str, *, days: int, where: Where = (), delay_days: int = 0, past_only: bool = False
) -> Aggregate:
    """The greatest value of an integer column."""
    return Aggregate("maximum", column, days, delay_days, _conditions(where), past_only)


def first(
    column: str, *, days: int, where: Where = (), delay_days: int = 0, past_only: bool = False
) -> Aggregate:
    """An integer column's value at the first event."""
    return Aggregate("first", column, days, delay_days, _conditions(where), past_only)


def last(
    column: str, *, days: int, where: Where = (), delay_days: int = 0, past_only: bool = False
) -> Aggregate:
    """An integer column's value at the last event."""
    return Aggregate("last", column, days, delay_days, _conditions(where), past_only)


def first_time(*, days: int, where: Where = (), delay_days: int = 0, past_only: bool = False) -> Aggregate:
    """The time of the first event, in seconds since 1970-01-01 UTC."""
    return Aggregate("first_time", None, days, delay_days, _conditions(where), past_only)


def last_time(*, days: int, where: Where = (), delay_days: int = 0, past_only: bool = False) -> Aggregate:
    """The time of the last event, in seconds since 1970-01-01 UTC."""
    return Aggregate("last_time", None, days, delay_days, _conditions(where), past_only)


@dataclass(frozen=True)
class DayOffsets:
    """The days of a table that the rows of one day need: first and last, relative to the rows' day."""

    first: int
    last: int


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features of the rows of one table, from the events of the same or another table.

    `rows` and `events` are asset names. `derive` and `event_derive` add integer columns to the two tables
    before anything else. Where both are the same table, a row sees the events before it in (`time`, `order`)
    and itself; of another table it sees the events with `event_time` at or before its own. Times are UTC
    datetimes on whole seconds. The output has the columns `keep`, as they are in the rows, and then
    `columns`: expressions, each over one row's aggregates and own columns.

    Make one with `feature_set`, which fills in the defaults.
    """

    name: str
    description: str
    rows: str
    events: str
    entity: str
    time: str
    order: str
    event_time: str
    event_order: str
    keep: tuple[str, ...]
    derive: Mapping[str, pl.Expr]
    event_derive: Mapping[str, pl.Expr]
    aggregates: Mapping[str, Aggregate]
    columns: Mapping[str, pl.Expr]

    def __post_init__(self) -> None:
        if self.own_events and (
            (self.event_time, self.event_order) != (self.time, self.order)
            or self.event_derive is not self.derive
        ):
            raise FeatureError(
                f"feature set {self.name}: rows and events are the same table {self.rows}; event_time, "
                f"event_order and event_derive are for another table of events"
            )
        if twice := sorted(set(self.keep) & set(self.columns)):
            raise FeatureError(f"feature set {self.name}: {twice} are in both keep and columns")
        for name, aggregate in self.aggregates.items():
            if aggregate.past_only and not self.own_events:
                raise FeatureError(
                    f"feature set {self.name}, aggregate {name}: past_only leaves the row itself out, but "
                    f"the rows of {self.rows} are not among the events of {self.events}"
                )
        for name, expression in {**self.derive, **self.event_derive, **self.columns}.items():
            if not _is_row_wise(expression):
                raise FeatureError(
                    f"feature set {self.name}, column {name}: {expression} is not computed row by row; what "
                    f"looks at other rows must be an aggregate over a window"
                )

    @property
    def own_events(self) -> bool:
        """Whether the rows are themselves the events that are aggregated."""
        return self.rows == self.events

    def reads(self) -> DayOffsets:
        """The days of the events table that one day of rows needs: a 30 day window reads -30 to 0."""
        aggregates = self.aggregates.values()
        return DayOffsets(
            first=min((-a.delay_days - a.days for a in aggregates), default=0),
            last=max((-a.delay_days for a in aggregates), default=0),
        )


def feature_set(
    name: str,
    *,
    rows: str,
    events: str | None = None,
    entity: str,
    time: str,
    order: str,
    event_time: str | None = None,
    event_order: str | None = None,
    keep: Iterable[str] = (),
    derive: Mapping[str, pl.Expr] | None = None,
    event_derive: Mapping[str, pl.Expr] | None = None,
    aggregates: Mapping[str, Aggregate],
    columns: Mapping[str, pl.Expr],
    description: str = "",
) -> FeatureSet:
    """Declare a feature set; see `FeatureSet` for the parts.

    Left out, `events` is `rows`, `event_time` and `event_order` are `time` and `order`, and `keep` is
    (`order`, `time`). Raises FeatureError where the declaration contradicts itself.
    """
    derive = dict(derive or {})
    own_events = events is None or events == rows
    return FeatureSet(
        name=name,
        description=description,
        rows=rows,
        events=events or rows,
        entity=entity,
        time=time,
        order=order,
        event_time=event_time or time,
        event_order=event_order or order,
        keep=tuple(keep) or (order, time),
        derive=derive,
        event_derive=derive if own_events and event_derive is None else dict(event_derive or {}),
        aggregates=dict(aggregates),
        columns=dict(columns),
    )


def _conditions(where: Where) -> tuple[Condition, ...]:
    return (where,) if isinstance(where, Condition) else tuple(where)


def _is_row_wise(expression: pl.Expr) -> bool:
    """Whether every part of the expression is computed row by row, as far as polars tells."""
    try:
        return expression.meta.is_row_separable() and all(map(_is_row_wise, expression.meta.pop()))
    except pl.exceptions.PolarsError:
        return False
