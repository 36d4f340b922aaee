"""Profiles: exact, small, and indifferent to the order of rows and to small corrections."""

from datetime import date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets_tests.quality.simulated import day, simulated
from my_platform.incremental.content import data_version
from my_platform.incremental.declare import ordinal
from my_platform.quality.profiles import COLUMNS, profile_of, read_profile

DAY = date(2025, 1, 1)
TABLE = pl.DataFrame(
    {
        "id": range(200),
        "at": [datetime(2025, 1, 1) + timedelta(seconds=n) for n in range(200)],
        "amount": [*(float(n) for n in range(198)), float("nan"), None],
        "kind": ["a"] * 150 + ["b"] * 49 + [None],
        "flag": [True] + [False] * 199,
    },
    schema_overrides={"at": pl.Datetime("ms")},
)


def profiled(table: pl.DataFrame = TABLE) -> dict[str, dict[str, Any]]:
    found = profile_of(table, ordinal(DAY.isoformat()))
    assert found.schema == {name: column.type for name, column in COLUMNS.items()}
    return {row["column"]: row for row in found.iter_rows(named=True)}


def test_counts_are_exact() -> None:
    found = profiled()
    assert {row["rows"] for row in found.values()} == {200}
    assert [found[name]["nulls"] for name in TABLE.columns] == [0, 0, 1, 1, 0]
    assert [found[name]["not_finite"] for name in TABLE.columns] == [None, None, 1, None, None]
    assert [found[name]["distinct"] for name in TABLE.columns] == [200, None, None, 2, 2]


def test_quantiles_are_values_of_the_column_from_the_least_to_the_greatest() -> None:
    found = profiled()["amount"]["quantiles"]
    assert (len(found), found[0], found[50], found[100]) == (101, 0.0, 99.0, 197.0)
    assert set(found) <= set(TABLE["amount"].drop_nulls().to_list())
    assert found == sorted(found)


def test_times_count_in_seconds_from_the_days_beginning() -> None:
    found = profiled()["at"]["quantiles"]
    assert (found[0], found[-1]) == (0.0, 199.0)


def test_values_that_many_rows_have_are_named_and_flags_always() -> None:
    found = profiled()
    assert (found["kind"]["values"], found["kind"]["counts"]) == (["a", "b"], [150, 49])
    assert (found["flag"]["values"], found["flag"]["counts"]) == (["false", "true"], [199, 1])
    assert found["id"]["values"] == found["at"]["values"] == []


@pytest.mark.parametrize("column", ["id", "amount", "kind", "flag", "at"])
def test_a_column_of_nulls_has_a_profile(column: str) -> None:
    found = profiled(TABLE.with_columns(pl.lit(None, TABLE.schema[column]).alias(column)))[column]
    assert (found["nulls"], found["quantiles"], found["values"]) == (200, [], [])


def test_an_empty_table_has_a_profile() -> None:
    found = read_profile(profile_of(TABLE.clear(), 0))
    assert (found.rows, list(found.columns)) == (0, TABLE.columns)
    assert found.columns["amount"].filled == 0


@pytest.mark.parametrize(
    "kind",
    [
        pl.Decimal(10, 2),
        pl.Int8,
        pl.UInt64,
        pl.Float32,
        pl.Date,
        pl.Categorical,
        pl.Binary,
        pl.List(pl.Int64),
    ],
)
def test_every_type_of_column_has_a_profile(kind: Any) -> None:
    numbers = pl.Series("x", [1, 2, 3, None])
    if kind in (pl.Categorical, pl.Binary):
        column = numbers.cast(pl.String).cast(kind)
    elif kind == pl.List(pl.Int64):
        column = pl.Series("x", [[1], [2, 3], [], None])
    else:
        column = numbers.cast(kind)
    found = read_profile(profile_of(pl.DataFrame([column]), 0)).columns["x"]
    assert (found.rows, found.nulls, found.filled) == (4, 1, 3)


def test_a_profile_depends_on_the_rows_and_not_on_their_order_or_chunks() -> None:
    shuffled = TABLE.sample(fraction=1.0, shuffle=True, seed=1)
    pieces = pl.concat([shuffled[:7], shuffled[7:100], shuffled[100:]], rechunk=False)
    assert_frame_equal(profile_of(pieces, 0), profile_of(TABLE, 0))


def test_a_correction_of_one_amount_mostly_leaves_the_profile_as_it_was() -> None:
    table = simulated(60, customers=1000)["transactions"][day(40)]
    before = data_version(profile_of(table, 0))
    same = 0
    for row in range(0, 1900, 100):
        amount = (
            pl.when(pl.int_range(pl.len()) == row).then(pl.col("TX_AMOUNT") + 0.05).otherwise("TX_AMOUNT")
        )
        same += data_version(profile_of(table.with_columns(TX_AMOUNT=amount), 0)) == before
    assert same >= 16
