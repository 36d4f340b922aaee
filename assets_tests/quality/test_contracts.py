"""Contracts divide the rows of a partition: none is lost, each bad one has its reason."""

from datetime import date, datetime, timedelta
from typing import Any

import pandera.polars as pa
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from my_platform.errors import Refused
from my_platform.quality.contracts import ROW, Contract
from my_platform.quality.rows import split_rows

DAY = "2018-04-01"
NAN, INFINITE = float("nan"), float("inf")


class Sales(pa.DataFrameModel):
    """Sales of a day."""

    id: int = pa.Field(unique=True, description="identifies the sale")
    at: datetime = pa.Field(description="when, UTC")
    shop: str = pa.Field(isin=["north", "south"], description="where")
    code: str = pa.Field(str_matches=r"^[A-Z]{2}\d+$", nullable=True)
    cents: int = pa.Field(ge=0, lt=1_000_000)
    share: float = pa.Field(ge=0, le=1)
    paid: int = pa.Field(ge=0)

    @pa.dataframe_check(error="paid_at_most_cents")
    def paid_at_most(cls, data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(pl.col("paid") <= pl.col("cents"))

    class Config:
        strict = True
        name = "sales"


CONTRACT = Contract(Sales, sort_by=("at", "id"), time="at", most_bad_share=1.0)
GOOD = {
    "id": 1, "at": datetime(2018, 4, 1, 12), "shop": "north", "code": "AB1", "cents": 500, "share": 0.5, "paid": 100,
}  # fmt: skip


def rows(*changes: dict[str, Any]) -> pl.DataFrame:
    """Good rows with ids 0, 1, 2 …, each with its changes."""
    return pl.DataFrame(
        [{**GOOD, "id": number, **change} for number, change in enumerate(changes)], CONTRACT.schema
    )


def reasons(table: pl.DataFrame, contract: Contract = CONTRACT) -> dict[int, str]:
    quarantined = split_rows(table, contract, DAY).quarantined
    return dict(zip(quarantined[ROW], quarantined["reason"], strict=True))


def test_rows_that_keep_the_contract_are_valid_and_sorted() -> None:
    table = rows({"at": datetime(2018, 4, 1, 23)}, {"at": datetime(2018, 4, 1)}, {"code": None}, {"id": -5})
    split = split_rows(table, CONTRACT, DAY)
    assert split.quarantined.height == 0
    assert split.valid["id"].to_list() == [1, -5, 2, 0]
    assert split.valid.schema == CONTRACT.schema


@pytest.mark.parametrize(
    ("change", "rule", "reason"),
    [
        pytest.param({"cents": None}, "not_nullable", "not_nullable in cents: None", id="null"),
        pytest.param({"id": None}, "not_nullable", "not_nullable in id: None", id="null key"),
        pytest.param({"at": None}, "not_nullable", "not_nullable in at: None", id="null time"),
        pytest.param({"cents": -1}, "greater_than_or_equal_to(0)", "greater_than_or_equal_to(0) in cents: -1", id="negative"),
        pytest.param({"cents": 1_000_000}, "less_than(1000000)", "less_than(1000000) in cents: 1000000", id="too large"),
        pytest.param({"share": NAN}, "not_nullable", "not_nullable in share: NaN", id="NaN"),
        pytest.param({"share": INFINITE}, "less_than_or_equal_to(1)", "less_than_or_equal_to(1) in share: inf", id="infinite"),
        pytest.param({"shop": "east"}, "isin(['north', 'south'])", "in shop: east", id="unknown value"),
        pytest.param({"code": "ab"}, "str_matches", "in code: ab", id="wrong form"),
        pytest.param({"paid": 501}, "paid_at_most_cents", "paid_at_most_cents", id="rule across columns"),
        pytest.param({"at": datetime(2018, 4, 2)}, "outside_day", "outside_day in at: 2018-04-02 00:00:00", id="next day"),
        pytest.param(
            {"at": datetime(2018, 3, 31, 23, 59, 59, 999999)}, "outside_day", "outside_day in at: 2018-03-31", id="day before"
        ),
    ],
)  # fmt: skip
def test_a_bad_row_is_quarantined_with_rule_and_reason(
    change: dict[str, Any], rule: str, reason: str
) -> None:
    table = rows({}, change, {})
    split = split_rows(table, CONTRACT, DAY)
    assert split.valid["id"].to_list() == [0, 2]
    assert split.quarantined[ROW].to_list() == [1]
    assert split.quarantined["rule"][0].startswith(rule)
    assert reason in split.quarantined["reason"][0]
    assert_frame_equal(split.quarantined.select(table.columns), table[1:2])


def test_a_row_that_breaks_several_rules_is_there_once_with_all_reasons() -> None:
    found = reasons(rows({}, {"cents": -1, "shop": "east", "at": datetime(2018, 4, 2), "paid": 0}))
    assert list(found) == [1]
    for part in (
        "outside_day in at",
        "greater_than_or_equal_to(0) in cents: -1",
        "in shop: east",
        "paid_at_most_cents",
    ):
        assert part in found[1]


def test_of_rows_that_say_the_same_the_first_is_kept() -> None:
    table = pl.concat([rows({}, {}), rows({})])
    split = split_rows(table, CONTRACT, DAY)
    assert split.valid["id"].to_list() == [0, 1]
    assert reasons(table) == {2: "repeated_row in id: same as a row before"}


def test_of_rows_that_contradict_each_other_none_is_kept() -> None:
    table = rows({"id": 7}, {"id": 7, "cents": 600}, {"id": 8})
    assert split_rows(table, CONTRACT, DAY).valid["id"].to_list() == [8]
    assert reasons(table) == {0: "field_uniqueness in id: 7", 1: "field_uniqueness in id: 7"}


def test_a_repeated_row_beside_a_contradiction_is_told_apart() -> None:
    table = rows({"id": 7}, {"id": 7}, {"id": 7, "cents": 600}, {"id": 8})
    found = reasons(table)
    assert set(found) == {0, 1, 2}
    assert "repeated_row" in found[1]


# The law ---------------------------------------------------------------------------------------------------

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "id": st.none() | st.integers(0, 5),
    "at": st.none() | st.datetimes(datetime(2018, 3, 31, 12), datetime(2018, 4, 2, 12)),
    "shop": st.sampled_from(["north", "south", "east", "", None]),
    "code": st.sampled_from(["AB1", "ab1", "", None]),
    "cents": st.none() | st.sampled_from([-1, 0, 500, 2_000_000, -(2**63), 2**63 - 1]),
    "share": st.none() | st.sampled_from([-0.0, 0.5, 1.0, 1.5, NAN, INFINITE, -INFINITE]),
    "paid": st.none() | st.sampled_from([0, 400, 600]),
}
TABLES = st.lists(st.fixed_dictionaries(VALUES) | st.just(GOOD), min_size=1, max_size=12).map(
    lambda found: pl.DataFrame(found, CONTRACT.schema)
)


def counted(table: pl.DataFrame) -> pl.DataFrame:
    return table.group_by(pl.all()).len().sort(pl.all(), nulls_last=True)


@settings(max_examples=80, deadline=None)
@given(TABLES)
def test_landed_rows_are_valid_and_quarantined_rows_together(table: pl.DataFrame) -> None:
    split = split_rows(table, CONTRACT, DAY)
    both = pl.concat([split.valid, split.quarantined.select(table.columns)])
    assert_frame_equal(counted(both), counted(table))
    numbers = split.quarantined[ROW]
    assert numbers.is_unique().all()
    assert_frame_equal(table[numbers.to_list()], split.quarantined.select(table.columns))
    assert split.quarantined["reason"].null_count() == 0


@settings(max_examples=40, deadline=None)
@given(TABLES)
def test_valid_rows_are_valid_again(table: pl.DataFrame) -> None:
    valid = split_rows(table, CONTRACT, DAY).valid
    if valid.height:
        again = split_rows(valid, CONTRACT, DAY)
        assert again.quarantined.height == 0
        assert_frame_equal(again.valid, valid)


@settings(max_examples=40, deadline=None)
@given(TABLES, st.randoms(use_true_random=False))
def test_the_order_of_landed_rows_does_not_matter(table: pl.DataFrame, random: Any) -> None:
    order = list(range(table.height))
    random.shuffle(order)
    one, other = (split_rows(t, CONTRACT, DAY).valid for t in (table, table[order]))
    assert_frame_equal(one, other)


# Partitions as a whole -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bad", "refused"), [(1, False), (2, True)])
def test_a_partition_is_refused_when_more_than_the_share_is_bad(bad: int, refused: bool) -> None:
    contract = Contract(Sales, sort_by=("at", "id"), time="at", most_bad_share=0.1)
    table = rows(*[{"cents": -1}] * bad, *[{}] * (10 - bad))
    if not refused:
        assert split_rows(table, contract, DAY).quarantined.height == bad
        return
    with pytest.raises(
        Refused, match=r"2 of 10 rows break the contract, more than 10%: .*\(2\); for example row 0: .*-1"
    ):
        split_rows(table, contract, DAY)


@pytest.mark.parametrize(("least", "refused"), [(2, False), (3, True)])
def test_a_partition_is_refused_when_it_has_too_few_rows(least: int, refused: bool) -> None:
    contract = Contract(Sales, sort_by=("id",), time="at", at_least_rows=least)
    if not refused:
        assert split_rows(rows({}, {}), contract, DAY).valid.height == 2
        return
    with pytest.raises(Refused, match="2 rows, where at least 3 are expected"):
        split_rows(rows({}, {}), contract, DAY)


def test_an_empty_partition_may_be_allowed() -> None:
    contract = Contract(Sales, sort_by=("id",), time="at", at_least_rows=0)
    split = split_rows(rows().clear(), contract, DAY)
    assert (split.valid.height, split.quarantined.height) == (0, 0)


def test_a_table_without_event_time_has_rows_of_any_day() -> None:
    contract = Contract(Sales, sort_by=("id",))
    assert split_rows(rows({"at": datetime(1999, 1, 1)}), contract, "").valid.height == 1


# Columns ---------------------------------------------------------------------------------------------------


def test_the_schema_and_the_catalogue_come_from_the_model() -> None:
    assert list(CONTRACT.schema) == list(GOOD)
    assert CONTRACT.schema["at"] == pl.Datetime("us")
    assert CONTRACT.catalogue["id"].description == "identifies the sale"


def test_a_day_is_told_at_its_edges() -> None:
    first, last = datetime(2018, 4, 1), datetime(2018, 4, 1, 23, 59, 59, 999999)
    table = rows({"at": first}, {"at": last}, {"at": last + timedelta(microseconds=1)})
    assert split_rows(table, CONTRACT, date(2018, 4, 1).isoformat()).valid["at"].to_list() == [first, last]
