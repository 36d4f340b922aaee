"""The offline compiler against a direct reading of what a declaration means."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from my_platform.features.columns import derive
from my_platform.features.declaration import (
    Aggregate,
    Condition,
    FeatureError,
    FeatureSet,
    count,
    feature_set,
    first,
    maximum,
    total,
    total_squares,
)
from my_platform.features.offline import compute

Record = dict[str, Any]

START = datetime(2024, 2, 27)
DAY_S = 86_400
TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda value, other: value == other,
    "!=": lambda value, other: value != other,
    "<": lambda value, other: value < other,
    "<=": lambda value, other: value <= other,
    ">": lambda value, other: value > other,
    ">=": lambda value, other: value >= other,
}
SCHEMA = pl.Schema(
    [
        ("entity", pl.Int64()),
        ("at", pl.Datetime("us")),
        ("number", pl.Int64()),
        ("value", pl.Int64()),
        ("flag", pl.Boolean()),
        ("word", pl.String()),
    ]
)

# Few distinct days, seconds and entities, so that ties and the very edges of windows are common.
seconds = st.tuples(st.integers(0, 6), st.sampled_from([0, 1, 40_000, DAY_S - 1])).map(
    lambda parts: parts[0] * DAY_S + parts[1]
)
records = st.lists(
    st.fixed_dictionaries(
        {
            "entity": st.sampled_from([-7, 3, 4]),
            "at": seconds.map(lambda second: START + timedelta(seconds=second)),
            "value": st.none() | st.integers(-5, 5),
            "flag": st.none() | st.booleans(),
            "word": st.sampled_from(["a", "b"]),
        }
    ),
    max_size=25,
)
conditions = st.one_of(
    st.builds(Condition, st.just("value"), st.sampled_from(list(TESTS)), st.integers(-2, 2)),
    st.builds(Condition, st.just("flag"), st.sampled_from(["==", "!="]), st.booleans()),
    st.builds(Condition, st.just("word"), st.sampled_from(["==", "<"]), st.sampled_from(["a", "b"])),
)


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    """A table with unique numbers, in no order and in any number of chunks."""
    drawn = draw(records)
    numbers = draw(st.permutations(range(len(drawn))))
    frame = pl.DataFrame([row | {"number": n} for row, n in zip(drawn, numbers, strict=True)], SCHEMA)
    cut = draw(st.integers(0, len(drawn)))
    return pl.concat([frame[:cut], frame[cut:]], rechunk=False)


@st.composite
def aggregates(draw: st.DrawFn, own_events: bool) -> Aggregate:
    kind = draw(st.sampled_from(["count", "first_time", "last_time"]) | st.sampled_from(COLUMN_KINDS))
    return Aggregate(
        kind,  # type: ignore[arg-type]
        "value" if kind in COLUMN_KINDS else None,
        days=draw(st.integers(1, 4)),
        delay_days=draw(st.sampled_from([0, 0, 1, 2])),
        where=tuple(draw(st.lists(conditions, max_size=2))),
        past_only=own_events and draw(st.booleans()),
    )


COLUMN_KINDS = ["total", "total_squares", "minimum", "maximum", "first", "last"]


def declare(events: str, declared: Iterable[Aggregate], **other: Any) -> FeatureSet:
    named = {f"a{index}": aggregate for index, aggregate in enumerate(declared)}
    return feature_set(
        "tested",
        rows="rows",
        events=events,
        entity="entity",
        time="at",
        order="number",
        aggregates=named,
        columns={name: pl.col(name) for name in named},
        **other,
    )


def own_sets() -> st.SearchStrategy[FeatureSet]:
    return st.lists(aggregates(own_events=True), min_size=1, max_size=6).map(lambda a: declare("rows", a))


def other_sets() -> st.SearchStrategy[FeatureSet]:
    return st.lists(aggregates(own_events=False), min_size=1, max_size=6).map(lambda a: declare("events", a))


def in_time(record: Record) -> tuple[datetime, int]:
    return record["at"], record["number"]


def expected_value(aggregate: Aggregate, row: Record, events: list[Record], own_events: bool) -> int | None:
    end = row["at"] - timedelta(days=aggregate.delay_days)
    seen = []
    for event in sorted(events, key=in_time):
        inside = end - timedelta(days=aggregate.days) < event["at"] <= end
        if own_events and aggregate.delay_days == 0:
            before = in_time(event) < in_time(row)
            inside &= before or (not aggregate.past_only and in_time(event) == in_time(row))
        if aggregate.column is not None:
            inside &= event[aggregate.column] is not None
        for test in aggregate.where:
            value = event[test.column]
            inside &= value is not None and TESTS[test.operator](value, test.value)
        if inside and event["entity"] == row["entity"]:
            seen.append(event)
    values = [event[aggregate.column] for event in seen] if aggregate.column else []
    times = [int(event["at"].replace(tzinfo=UTC).timestamp()) for event in seen]
    match aggregate.kind:
        case "count":
            return len(seen)
        case "total":
            return sum(values)
        case "total_squares":
            return sum(value * value for value in values)
        case _ if not seen:
            return None
        case "minimum":
            return min(values)
        case "maximum":
            return max(values)
        case "first" | "last":
            return values[0 if aggregate.kind == "first" else -1]
        case _:
            return times[0 if aggregate.kind == "first_time" else -1]


def expected(tested: FeatureSet, rows: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    records = events.to_dicts()
    return pl.DataFrame(
        [
            {"number": row["number"], "at": row["at"]}
            | {
                name: expected_value(aggregate, row, records, tested.own_events)
                for name, aggregate in tested.aggregates.items()
            }
            for row in sorted(rows.to_dicts(), key=in_time)
        ],
        pl.Schema(
            {"number": pl.Int64(), "at": pl.Datetime("us"), **dict.fromkeys(tested.aggregates, pl.Int64())}
        ),
    )


def assert_identical(left: pl.DataFrame, right: pl.DataFrame) -> None:
    assert left.schema == right.schema
    assert left.equals(right, null_equal=True), f"{left}\n{right}"


def of_days(frame: pl.DataFrame, first_day: int, last_day: int) -> pl.DataFrame:
    start, end = START + timedelta(days=first_day), START + timedelta(days=last_day + 1)
    return frame.filter(pl.col("at").is_between(start, end, closed="left"))


@given(own_sets(), tables())
@settings(max_examples=100, deadline=None)
def test_rows_that_are_their_own_events_get_what_the_declaration_says(
    tested: FeatureSet, rows: pl.DataFrame
) -> None:
    assert_identical(compute(tested, rows), expected(tested, rows, rows))


@given(other_sets(), tables(), tables())
@settings(max_examples=100, deadline=None)
def test_events_of_another_table_give_what_the_declaration_says(
    tested: FeatureSet, rows: pl.DataFrame, events: pl.DataFrame
) -> None:
    assert_identical(compute(tested, rows, events), expected(tested, rows, events))


@given(own_sets() | other_sets(), tables(), tables())
@settings(max_examples=40, deadline=None)
def test_a_day_with_the_days_it_reads_equals_its_part_of_a_range(
    tested: FeatureSet, rows: pl.DataFrame, others: pl.DataFrame
) -> None:
    events = rows if tested.own_events else others
    reads = tested.reads()
    days = []
    for day in range(7):
        read = of_days(events, day + reads.first, day + reads.last)
        own_day = of_days(events, day, day) if tested.own_events and reads.last < 0 else events.clear()
        days.append(compute(tested, of_days(rows, day, day), pl.concat([read, own_day])))
    assert_identical(pl.concat(days), compute(tested, rows, events))


@given(tables(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_float_columns_are_the_same_bits_row_by_row_in_any_order(rows: pl.DataFrame, random: Any) -> None:
    n, sum_, squares = (pl.col(name).cast(pl.Float64) for name in ("n", "sum", "squares"))
    tested = feature_set(
        "tested",
        rows="rows",
        entity="entity",
        time="at",
        order="number",
        aggregates={
            "n": count(days=3),
            "sum": total("value", days=3),
            "squares": total_squares("value", days=3),
        },
        columns={"mean": sum_ / n / 7, "spread": (squares / n - (sum_ / n).pow(2)).sqrt().log1p()},
    )
    whole = compute(tested, rows)
    positions = list(range(rows.height))
    random.shuffle(positions)
    assert_identical(compute(tested, rows[positions]), whole)
    by_row = [compute(tested, rows[position], rows) for position in range(rows.height)]
    assert_identical(pl.concat([whole.clear(), *by_row]).sort("at", "number"), whole)


@pytest.mark.parametrize("heights", [[1], [1, 1], [1, 4], [5]])
def test_a_division_by_a_constant_gives_the_same_bits_at_any_height_and_in_any_chunks(
    heights: list[int],
) -> None:
    tested = feature_set(
        "tested",
        rows="rows",
        entity="entity",
        time="at",
        order="number",
        derive={"seventh": pl.col("fee") / 7, "sevenths": (pl.col("fee") / 7 * 2**60).cast(pl.Int64)},
        aggregates={"sum": total("sevenths", days=1)},
        columns={"seventh": pl.col("seventh"), "again": pl.col("fee") / 7, "sum": pl.col("sum") / 7},
    )
    parts: list[pl.DataFrame] = []
    for height in heights:
        ordinary = pl.DataFrame({"entity": range(height), "at": [START] * height, "number": range(height)})
        number = pl.col("number") + 10 * len(parts)
        parts.append(ordinary.with_columns(entity=number, number=number, fee=pl.lit(0.2)))
    features = compute(tested, pl.concat(parts, rechunk=False))
    many = {"entity": range(50), "at": [START] * 50, "number": range(50), "fee": [0.2] * 50}
    usual = compute(tested, pl.DataFrame(many))
    for name in tested.columns:
        assert features[name].unique().to_list() == usual[name].unique().to_list()


def small_table(**columns: Any) -> pl.DataFrame:
    given_columns = {
        "entity": [1, 1],
        "at": [START, START + timedelta(days=1)],
        "number": [1, 2],
        "value": [3, 4],
    }
    return pl.DataFrame(given_columns | columns)


@pytest.mark.parametrize("days_of_events", [0, 2])
def test_no_rows_give_no_features_of_the_same_types(days_of_events: int) -> None:
    tested = declare("rows", [count(days=1), maximum("value", days=2)])
    rows = small_table()
    assert_identical(compute(tested, rows.clear(), rows[:days_of_events]), compute(tested, rows).clear())


def test_rows_without_any_event_get_zeros_and_nulls() -> None:
    tested = declare("events", [count(days=90), total("value", days=90), first("value", days=90)])
    features = compute(tested, small_table(), small_table().clear())
    assert features.select("a0", "a1", "a2").rows() == [(0, 0, None), (0, 0, None)]


@pytest.mark.parametrize(
    "entities",
    [
        pytest.param({-7: "x", 3: "", 4: "ü"}, id="strings"),
        pytest.param({-7: -(2**62), 3: 2**62, 4: 0}, id="integers far apart"),
    ],
)
def test_entities_are_told_apart_whatever_they_are_called(entities: dict[int, Any]) -> None:
    tested = declare("rows", [count(days=3), total("number", days=2)])
    rows = pl.DataFrame(
        [
            {"entity": entity, "at": START + timedelta(hours=7 * number), "number": number}
            for number, entity in enumerate([3, 4, -7, 3, 3, 4, -7, 4, 3])
        ]
    )
    renamed = rows.with_columns(pl.col("entity").replace_strict(entities))
    assert_identical(compute(tested, renamed), compute(tested, rows))


def test_rows_of_one_second_may_be_ordered_by_strings() -> None:
    tested = declare("rows", [count(days=1, past_only=True), first("value", days=1)])
    rows = small_table(at=[START, START], number=["b", "a10"])
    assert compute(tested, rows, rows.reverse()).rows() == [("a10", START, 0, 4), ("b", START, 1, 4)]


def test_the_output_has_the_kept_columns_then_the_declared_ones() -> None:
    tested = feature_set(
        "tested",
        rows="rows",
        entity="entity",
        time="at",
        order="number",
        keep=["number", "value"],
        derive={"doubled": pl.col("value") * 2},
        aggregates={"sum": total("doubled", days=1)},
        columns={"share": pl.col("doubled") / pl.col("sum"), "at": pl.col("at").dt.day()},
    )
    assert compute(tested, small_table()).columns == ["number", "value", "share", "at"]


def test_prefix_sums_may_wrap_around_as_long_as_no_window_does() -> None:
    tested = declare("rows", [total("value", days=1)])
    huge = 2**62
    rows = pl.DataFrame(
        {
            "entity": [1] * 4,
            "at": [START + timedelta(days=2 * index) for index in range(4)],
            "number": range(4),
            "value": [huge, huge, huge, -huge],
        }
    )
    assert compute(tested, rows)["a0"].to_list() == [huge, huge, huge, -huge]


@pytest.mark.parametrize("aggregate", [total("value", days=7), total_squares("value", days=1)])
def test_a_total_beyond_64_bits_is_refused(aggregate: Aggregate) -> None:
    with pytest.raises(FeatureError, match=r"tested, aggregate a0: .* exceeds 64 bits"):
        compute(declare("rows", [aggregate]), small_table(value=[2**62, 2**62]))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"at": [START, None]}, "rows, column at: 1 values are null"),
        ({"entity": [1, None]}, "rows, column entity: 1 values are null"),
        ({"at": [START, START.replace(microsecond=1)]}, r"whole seconds, found 2024-02-27 00:00:00\.000001"),
        ({"at": [START.date(), START.date()]}, "expected UTC datetimes, found Date"),
        ({"at": [START, START], "number": [5, 5]}, "rows: 1 events stand more than once, such as .*5"),
        ({"value": [1.5, 2.0]}, "rows, column value: only integers are aggregated, found Float64"),
        ({"entity": [1.0, 2.0]}, "column entity: expected integers or strings"),
        ({"a0": [1, 2]}, "are both aggregates and columns of rows"),
    ],
)
def test_a_table_that_cannot_be_computed_is_refused_by_column(columns: Record, message: str) -> None:
    with pytest.raises(FeatureError, match=message):
        compute(declare("rows", [total("value", days=1)]), small_table(**columns))


def test_a_row_that_is_not_among_its_own_events_is_refused() -> None:
    rows = small_table()
    with pytest.raises(FeatureError, match=r"1 rows are not among their own events, such as .*'number': 2"):
        compute(declare("rows", [count(days=1)]), rows, rows[:1])


def test_events_of_another_table_have_to_be_given() -> None:
    with pytest.raises(FeatureError, match="tested: give the events too, rows of events"):
        compute(declare("events", [count(days=1)]), small_table())


def test_a_missing_column_is_named_with_those_there_are() -> None:
    rows = small_table()
    with pytest.raises(
        FeatureError, match=r"rows: there is no column value among \['entity', 'at', 'number'\]"
    ):
        compute(declare("rows", [total("value", days=1)]), rows.drop("value"))
    with pytest.raises(FeatureError, match="there is no column flag"):
        compute(declare("rows", [count(days=1, where=Condition("flag", "==", True))]), rows)


def test_a_condition_of_another_type_than_its_column_is_refused() -> None:
    with pytest.raises(FeatureError, match=r"column value: it is Int64, which .*True.* cannot test"):
        compute(declare("rows", [count(days=1, where=Condition("value", "==", True))]), small_table())


def test_a_derived_column_does_not_take_the_place_of_one_of_the_table() -> None:
    with pytest.raises(FeatureError, match="b cannot be derived, as the table has columns of that name"):
        derive("sales", pl.DataFrame({"a": [1], "b": [2]}), {"b": pl.col("a") * 2})
