"""Thresholds by rule, rows that people let in, and rules that look into other tables."""

from datetime import datetime
from typing import Any

import pandera.polars as pa
import polars as pl
import pytest

from my_platform.errors import PlatformError, Refused
from my_platform.incremental.declare import Grain
from my_platform.incremental.memory import Memory
from my_platform.quality.contracts import ROW, Contract, version_of
from my_platform.quality.references import known_keys, unknown_keys
from my_platform.quality.rows import Context, Split, row_digests, split_rows
from my_platform.quality.tables import raw_table, validated_table

DAY = "2018-04-01"


class Sales(pa.DataFrameModel):
    """Sales of a day."""

    id: int = pa.Field(unique=True)
    at: datetime
    shop: int = pa.Field(nullable=True)
    cents: int = pa.Field(ge=0)
    paid: int = pa.Field(ge=0)
    rule: str = pa.Field(nullable=True, description="a name that quarantine uses too")

    @pa.dataframe_check(error="paid_at_most_cents")
    def paid_at_most(cls, data: pa.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(pl.col("paid") <= pl.col("cents"))

    class Config:
        strict = True
        name = "sales"


class Shops(pa.DataFrameModel):
    """All shops."""

    shop: int = pa.Field(unique=True)
    name: str

    class Config:
        strict = True


GOOD = {"id": 1, "at": datetime(2018, 4, 1, 12), "shop": 3, "cents": 500, "paid": 100, "rule": "x"}


def contract(**more: Any) -> Contract:
    return Contract(Sales, **{"sort_by": ("at", "id"), "time": "at", "most_bad_share": 1.0, **more})


def rows(*changes: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(
        [{**GOOD, "id": number, **change} for number, change in enumerate(changes)], contract().schema
    )


def split(table: pl.DataFrame, *released: int, **context: Any) -> Split:
    """The split of a table of which rows, by number, are released."""
    digests = row_digests(
        split_rows(table, contract(), DAY).quarantined.filter(pl.col(ROW).is_in(released)), table.columns
    )
    return split_rows(table, contract(), DAY, Context(released=frozenset(digests), **context))


# What quarantine tells -------------------------------------------------------------------------------------


def test_each_bad_row_tells_column_and_value() -> None:
    table = rows({}, {"cents": -1, "paid": 0}, {"paid": 501}, {"at": datetime(2018, 4, 2)}, {"cents": None})
    found = split(table).quarantined
    assert found.select(ROW, "rule", "column", "value").rows() == [
        (1, "greater_than_or_equal_to(0)", "cents", "-1"),
        (2, "paid_at_most_cents", "cents, paid", '{"cents":500,"paid":501}'),
        (3, "outside_day", "at", "2018-04-02 00:00:00"),
        (4, "not_nullable", "cents", "None"),
    ]  # fmt: skip


def test_a_landed_column_that_is_named_as_one_of_quarantine_is_kept_beside_it() -> None:
    found = split(rows({"cents": -1, "rule": "landed"})).quarantined
    assert (found["rule_landed"][0], found["rule"][0]) == ("landed", "greater_than_or_equal_to(0)")


# Thresholds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by_rule", "refused"),
    [
        ({"greater_than_or_equal_to(0)": 0.1}, "2 of 10 rows break the rule greater_than_or_equal_to(0), more than 10%"),
        ({"cents.greater_than_or_equal_to(0)": 0.1}, "2 of 10 rows break the rule cents.greater"),
        ({"paid.greater_than_or_equal_to(0)": 0.1}, None),
        ({"greater_than_or_equal_to(0)": 0.2}, None),
        ({"outside_day": 0.0}, None),
        ({"paid_at_most_cents": 0.0}, "more than 0%"),
    ],
)  # fmt: skip
def test_a_partition_is_refused_when_one_rule_is_broken_too_often(
    by_rule: dict[str, float], refused: str | None
) -> None:
    table = rows({"cents": -1, "paid": 0}, {"cents": -2, "paid": 0}, *[{}] * 8)
    strict = contract(most_bad_share_by_rule=by_rule)
    if refused is None:
        assert split_rows(table, strict, DAY).quarantined.height == 2
        return
    with pytest.raises(Refused) as caught:
        split_rows(table, strict, DAY)
    assert refused in str(caught.value)
    assert "for example row 0" in str(caught.value)
    assert caught.value.rows[ROW].to_list() == [0, 1]


def test_a_threshold_for_a_rule_that_is_none_is_refused() -> None:
    with pytest.raises(
        PlatformError, match=r"Sales has no rule positive; it has .*outside_day.*paid_at_most_cents"
    ):
        contract(most_bad_share_by_rule={"positive": 0.1})


# Released rows ---------------------------------------------------------------------------------------------


def test_a_released_row_is_valid_and_the_others_stay() -> None:
    table = rows({"cents": -1, "paid": -5}, {}, {"cents": -2, "paid": -5})
    found = split(table, 0)
    assert (found.valid["id"].to_list(), found.quarantined[ROW].to_list(), found.released) == ([0, 1], [2], 1)


def test_a_row_is_known_by_what_it_says_wherever_it_stands() -> None:
    table = rows({"cents": -1, "paid": -5}, {})
    digests = frozenset(row_digests(split(table).quarantined, table.columns))
    context = Context(released=digests)
    moved = pl.concat([rows({"id": 9}), table.reverse()])
    assert split_rows(moved, contract(), DAY, context).quarantined.is_empty()
    corrected = table.with_columns(cents=pl.col("cents") - 1)
    assert split_rows(corrected, contract(), DAY, context).quarantined.height == 1


@pytest.mark.parametrize("change", [{"at": datetime(2018, 4, 2)}, {"cents": None}])
def test_what_readers_count_on_is_never_released(change: dict[str, Any]) -> None:
    table = rows({}, change)
    found = split(table, 1)
    assert (found.quarantined[ROW].to_list(), found.quarantined["releasable"].to_list()) == ([1], [False])


def test_a_row_that_is_there_twice_is_not_released() -> None:
    table = pl.concat([rows({}), rows({})])
    assert split(table, 1).quarantined[ROW].to_list() == [1]


def test_of_rows_that_contradict_each_other_one_can_be_released() -> None:
    table = rows({"id": 7}, {"id": 7, "cents": 600}, {"id": 8})
    found = split(table, 1)
    assert (found.valid["cents"].to_list(), found.quarantined[ROW].to_list()) == ([600, 500], [0])


def test_rows_that_contradict_each_other_are_not_released_together() -> None:
    table = rows({"id": 7}, {"id": 7, "cents": 600}, {"id": 8})
    with pytest.raises(
        Refused, match=r"row 0 and row 1 have the same id \(7\).*take one release back with .*--undo"
    ):
        split(table, 0, 1)


def test_a_release_counts_before_the_threshold() -> None:
    table = rows({"cents": -1, "paid": -5}, {"cents": -2, "paid": -5}, *[{}] * 8)
    strict = contract(most_bad_share=0.1)
    with pytest.raises(Refused) as caught:
        split_rows(table, strict, DAY)
    digests = row_digests(caught.value.rows[:1], table.columns)
    found = split_rows(table, strict, DAY, Context(released=frozenset(digests)))
    assert (found.valid.height, found.quarantined.height) == (9, 1)


# Rules that look into other tables -------------------------------------------------------------------------

RAW = raw_table("raw/sales", contract(), source="sales")
SHOPS = Contract(Shops, sort_by=("shop",))
RAW_SHOPS = raw_table("raw/shops", SHOPS, source="shops", grain=Grain.ONCE)
KNOWN = known_keys("known_shops", validated_table("validated/shops", RAW_SHOPS, SHOPS), "shop")
UNKNOWN = unknown_keys("unknown_shops", RAW, "shop", KNOWN)


class Tables:
    """A batch over tables in memory, by read."""

    keys = (DAY,)
    asset, memory = "sales", Memory()

    def __init__(self, **reads: pl.DataFrame) -> None:
        self.reads = reads

    def inputs(self, read: str, key: str) -> dict[str, pl.DataFrame]:
        return {key: self.reads[read]}


def made(asset: Any, **reads: pl.DataFrame) -> pl.DataFrame:
    ((_, produced),) = asset.compute(Tables(**reads))
    assert not isinstance(produced, Exception), produced
    return produced.table


def test_known_keys_do_not_change_with_a_profile() -> None:
    shops = pl.DataFrame({"shop": [3, 1], "name": ["c", "a"]})
    assert made(KNOWN, rows=shops).rows() == [(1,), (3,)]
    assert made(KNOWN, rows=shops.with_columns(name=pl.lit("new"))).equals(made(KNOWN, rows=shops))


def test_unknown_keys_of_a_day_do_not_change_with_a_key_that_it_does_not_use() -> None:
    table = rows({}, {"shop": 5}, {"shop": 5}, {"shop": None})
    assert made(UNKNOWN, rows=table, known=pl.DataFrame({"shop": [3]})).rows() == [(5,)]
    assert made(UNKNOWN, rows=table, known=pl.DataFrame({"shop": [3, 4]})).rows() == [(5,)]
    assert made(UNKNOWN, rows=table, known=pl.DataFrame({"shop": [3, 5]})).rows() == []


def test_rows_with_unknown_keys_are_quarantined_and_nulls_refer_to_nothing() -> None:
    table = rows({}, {"shop": 5}, {"shop": None})
    found = split(table, unknown={"shop": pl.Series([5])})
    assert found.quarantined.select(ROW, "rule", "column", "value").rows() == [
        (1, "unknown_key", "shop", "5")
    ]
    assert split(table, 1, unknown={"shop": pl.Series([5])}).quarantined.height == 1


def test_a_key_of_another_type_is_refused_when_it_is_said() -> None:
    with pytest.raises(PlatformError, match="rule is String, and shop of known_shops is Int64"):
        unknown_keys("unknown_shops", RAW, "rule", KNOWN)


# Contracts that cannot hold --------------------------------------------------------------------------------


def test_a_contract_that_coerces_is_refused() -> None:
    class Coercing(Sales):
        """Sales."""

        class Config:
            coerce = True

    with pytest.raises(PlatformError, match=r"Coercing coerces .*say in `casts` which other types may land"):
        Contract(Coercing, sort_by=("id",))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"time": "when"}, "Sales has no column when; it has id, at"),
        ({"sort_by": ("shop",)}, "Sales: shop may be null"),
    ],
)
def test_a_contract_without_an_order_or_a_day_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(PlatformError, match=message):
        contract(**more)


def test_the_version_of_a_contract_changes_with_its_content_alone() -> None:
    assert version_of(contract()) == version_of(contract())
    versions = {
        version_of(c)
        for c in (contract(), contract(at_least_rows=2), contract(extra_columns="ignore"), SHOPS)
    }
    assert len(versions) == 4
