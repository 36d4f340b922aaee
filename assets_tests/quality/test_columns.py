"""Files whose columns are not those of the contract: told in words, and taken only where the contract says so."""

import io
from datetime import date, datetime
from typing import Any

import pandera.polars as pa
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from my_platform.errors import PlatformError, Refused
from my_platform.quality.columns import OtherColumns
from my_platform.quality.contracts import Contract
from my_platform.quality.parsing import read_landed
from my_platform.quality.renames import with_guesses

FILE = "landing/sales/2018-04-01.parquet"


class Sales(pa.DataFrameModel):
    """Sales of a day."""

    id: int = pa.Field(unique=True)
    at: datetime
    due: date
    shop: str = pa.Field(isin=["north", "south"])
    amount: float = pa.Field(ge=0)
    discount: float = pa.Field(le=0)

    class Config:
        strict = True
        name = "sales"


def contract(**policy: Any) -> Contract:
    return Contract(Sales, sort_by=("at", "id"), time="at", **policy)


ROWS = pl.DataFrame(
    {
        "id": range(8),
        "at": [datetime(2018, 4, 1, hour) for hour in range(8)],
        "due": [date(2018, 5, 1)] * 8,
        "shop": ["north", "south"] * 4,
        "amount": [float(n) for n in range(8)],
        "discount": [-float(n) for n in range(8)],
    },
    contract().schema,
)


def parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


def read(table: pl.DataFrame, rules: Contract, *, as_csv: bool = False) -> Any:
    if as_csv:
        return read_landed([(FILE.replace("parquet", "csv"), table.write_csv().encode())], rules.columns)
    return read_landed([(FILE, parquet(table))], rules.columns)


def refusal(table: pl.DataFrame, rules: Contract | None = None, *, as_csv: bool = False) -> Refused:
    rules = rules or contract()
    with pytest.raises(OtherColumns) as caught:
        read(table, rules, as_csv=as_csv)
    return with_guesses(caught.value, rules)


# Refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop("amount", "shop"), "column shop, amount is missing"),
        (lambda t: t.with_columns(extra=1), "column extra is not in the contract"),
        (lambda t: t.with_columns(pl.col("amount").cast(pl.Float32)), "column amount is Float32, expected Float64"),
        (lambda t: t.with_columns(pl.col("id").cast(pl.String)), "column id is String, expected Int64"),
        (lambda t: t.with_columns(pl.col("at").dt.date()), "column at is Date, expected Datetime"),
        (
            lambda t: t.with_columns(pl.col("at").dt.replace_time_zone("Europe/Berlin")),
            "column at is Datetime.*Europe/Berlin.*, expected Datetime",
        ),
    ],
)  # fmt: skip
def test_a_difference_is_told_with_the_file_and_the_way_out(change: Any, message: str) -> None:
    words = str(refusal(change(ROWS)))
    expected = "Expected are the columns id, at, due, shop, amount, discount: deliver the file again"
    assert words.startswith(f"{FILE}: ")
    assert expected in words
    assert pl.Series([words]).str.contains(message)[0], words


def test_the_difference_is_shown_as_a_table() -> None:
    shown = refusal(ROWS.drop("due").with_columns(pl.col("id").cast(pl.Int32), extra=1)).metadata["columns"]
    assert [(row["column"], row["difference"], row["expected"], row["found"], row["done"]) for row in shown] == [
        ("id", "retyped", "Int64", "Int32", "refused"),
        ("due", "missing", "Date", "", "refused"),
        ("extra", "added", "", "Int32", "refused"),
    ]  # fmt: skip


@pytest.mark.parametrize("as_csv", [False, True])
def test_a_renamed_column_is_recognised_by_its_type_and_values(*, as_csv: bool) -> None:
    words = str(refusal(ROWS.rename({"amount": "price", "discount": "rebate"}), as_csv=as_csv))
    assert "column amount, discount is missing; column price, rebate is not in the contract" in words
    assert (
        "rebate looks like discount renamed: it has its type, and 100% of its values keep its rules" in words
    )
    assert "price looks like amount renamed" in words
    assert 'say renames={"rebate": "discount", "price": "amount"} in the contract' in words


def test_a_column_of_another_kind_is_no_renamed_one() -> None:
    for strange in (pl.lit("east"), pl.col("id").cast(pl.String)):
        table = ROWS.drop("amount").with_columns(strange.alias("remark"))
        assert "renamed" not in str(refusal(table))


def test_values_that_break_the_rules_speak_against_a_guess() -> None:
    words = str(refusal(ROWS.drop("amount").with_columns(loss=pl.col("discount") - 1).with_columns(other=1)))
    assert "renamed" not in words


# Taken -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_csv", [False, True])
def test_reordered_columns_are_always_read(*, as_csv: bool) -> None:
    made = read(ROWS.select(reversed(ROWS.columns)), contract(), as_csv=as_csv)
    assert_frame_equal(made.table, ROWS)
    (row,) = made.metadata["columns"]
    assert (row["difference"], row["found"]) == ("reordered", "discount, amount, shop, due, at, id")


@pytest.mark.parametrize("as_csv", [False, True])
def test_extra_columns_are_left_out_and_recorded_where_the_contract_says_so(*, as_csv: bool) -> None:
    made = read(ROWS.with_columns(extra=1), contract(extra_columns="ignore"), as_csv=as_csv)
    assert_frame_equal(made.table, ROWS)
    (row,) = made.metadata["columns"]
    assert (row["column"], row["difference"], row["done"]) == ("extra", "added", "left out")


@pytest.mark.parametrize("as_csv", [False, True])
def test_a_declared_rename_is_taken_and_so_is_the_name_itself(*, as_csv: bool) -> None:
    rules = contract(renames={"price": "amount"})
    made = read(ROWS.rename({"amount": "price"}), rules, as_csv=as_csv)
    assert_frame_equal(made.table, ROWS)
    assert made.metadata["columns"][0]["difference"] == "renamed"
    assert "columns" not in read(ROWS, rules, as_csv=as_csv).metadata


def test_a_file_with_both_names_of_a_column_is_refused() -> None:
    words = str(refusal(ROWS.with_columns(price=1.0), contract(renames={"price": "amount"})))
    assert "column price is not in the contract" in words


def test_a_declared_type_is_cast_without_loss() -> None:
    rules = contract(
        casts={"id": (pl.Int32(), pl.UInt8()), "amount": (pl.Float32(),), "shop": (pl.Categorical(),)}
    )
    landed = ROWS.cast({"id": pl.Int32, "amount": pl.Float32, "shop": pl.Categorical})
    made = read(landed, rules)
    assert_frame_equal(made.table, ROWS)
    assert [row["done"] for row in made.metadata["columns"]] == [
        f"cast to {t}" for t in ("Int64", "String", "Float64")
    ]
    assert "column id is Int16, expected Int64" in str(refusal(ROWS.cast({"id": pl.Int16}), rules))


# Declarations ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"casts": {"id": (pl.UInt64(),)}}, "id from UInt64 to Int64 does not keep every value"),
        ({"casts": {"id": (pl.Float64(),)}}, "id from Float64 to Int64 does not keep every value"),
        ({"casts": {"amount": (pl.Int64(),)}}, "amount from Int64 to Float64 does not keep every value"),
        ({"casts": {"amount": (pl.String(),)}}, "amount from String to Float64 does not keep every value"),
        ({"casts": {"price": (pl.Float32(),)}}, "casts: price is none of the columns id, at"),
        ({"renames": {"price": "cost"}}, "renames: price to cost; the new name must be one of the columns"),
        ({"renames": {"id": "amount"}}, "renames: id to amount"),
    ],
)
def test_what_cannot_be_mapped_is_refused_when_it_is_said(policy: Any, message: str) -> None:
    with pytest.raises(PlatformError, match=message):
        contract(**policy)


def test_only_names_types_and_lenience_count_for_raw_tables() -> None:
    assert contract(most_bad_share=0.5, at_least_rows=7).columns.parameters == contract().columns.parameters
    for policy in (
        {"extra_columns": "ignore"},
        {"renames": {"price": "amount"}},
        {"casts": {"id": (pl.Int32(),)}},
    ):
        assert contract(**policy).columns.parameters != contract().columns.parameters
