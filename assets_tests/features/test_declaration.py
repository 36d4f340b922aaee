"""What a declaration refuses, and what it says about itself."""

from typing import Any

import polars as pl
import pytest

from my_platform.features.declaration import (
    Aggregate,
    Condition,
    DayOffsets,
    FeatureError,
    FeatureSet,
    count,
    feature_set,
    total,
)


def declare(**changed: Any) -> FeatureSet:
    declared: dict[str, Any] = {
        "rows": "payments",
        "entity": "card",
        "time": "paid_at",
        "order": "payment",
        "aggregates": {"n": count(days=7)},
        "columns": {"payments_7d": pl.col("n")},
    }
    return feature_set("spending", **declared | changed)


def test_a_window_reads_the_day_it_begins_in_and_the_day_of_the_row() -> None:
    assert declare(aggregates={"n": count(days=30)}).reads() == DayOffsets(-30, 0)


def test_a_delay_moves_the_days_that_are_read() -> None:
    delayed = {"a": count(days=1, delay_days=7), "b": total("cents", days=30, delay_days=3)}
    assert declare(aggregates=delayed).reads() == DayOffsets(-33, -3)


def test_rows_are_their_own_events_unless_another_table_is_named() -> None:
    own = declare()
    assert (own.own_events, own.events, own.event_time, own.event_order) == (
        True,
        "payments",
        "paid_at",
        "payment",
    )
    assert not declare(events="reports", event_time="reported_at").own_events


def test_one_condition_and_several_are_both_kept_as_data() -> None:
    fraud, low = Condition("fraud", "==", True), Condition("cents", "<=", 100)
    assert count(days=1, where=fraud).where == (fraud,)
    assert count(days=1, where=[fraud, low]).where == (fraud, low)


@pytest.mark.parametrize("days", [0, -1, 91, 0.5])
def test_a_window_has_1_to_90_whole_days(days: Any) -> None:
    with pytest.raises(FeatureError, match="a window has 1 to 90 whole days"):
        count(days=days)


@pytest.mark.parametrize("delay_days", [-1, 91])
def test_a_delay_has_0_to_90_whole_days(delay_days: int) -> None:
    with pytest.raises(FeatureError, match="a delay has 0 to 90 whole days"):
        count(days=1, delay_days=delay_days)


@pytest.mark.parametrize(
    ("kind", "column", "message"),
    [
        ("count", "cents", "count takes no column"),
        ("total", None, "total takes a column"),
        ("mean", "cents", "the kind must be one of count, total"),
    ],
)
def test_an_aggregate_has_a_known_kind_and_the_column_it_needs(kind: Any, column: Any, message: str) -> None:
    with pytest.raises(FeatureError, match=message):
        Aggregate(kind, column, days=1)


@pytest.mark.parametrize(("operator", "value"), [("~", 1), ("==", 1.5), ("==", None)])
def test_a_condition_compares_with_an_exact_value(operator: Any, value: Any) -> None:
    with pytest.raises(FeatureError, match="must be"):
        Condition("cents", operator, value)


@pytest.mark.parametrize(
    "expression",
    [
        pl.col("n").mean(),
        pl.col("n") - pl.col("n").shift(1),
        pl.col("n").sum().over("card"),
        pl.when(pl.col("n") > pl.col("n").max()).then(1),
        pl.col("n").map_batches(lambda n: n.sort()),
    ],
)
def test_a_column_may_not_look_at_other_rows(expression: pl.Expr) -> None:
    with pytest.raises(FeatureError, match=r"feature set spending, column c: .* not computed row by row"):
        declare(columns={"c": expression})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"columns": {"payment": pl.col("n")}}, r"\['payment'\] are in both keep and columns"),
        ({"event_time": "reported_at"}, "are for another table of events"),
        ({"event_derive": {"cents": pl.col("amount")}}, "are for another table of events"),
        (
            {"events": "reports", "aggregates": {"n": count(days=1, past_only=True)}},
            "aggregate n: past_only leaves the row itself out",
        ),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(FeatureError, match=message):
        declare(**changed)
