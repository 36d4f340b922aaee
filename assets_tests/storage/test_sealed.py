"""Sealed objects give back table and record, and notice every changed, missing or added byte."""

import io
from datetime import datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from my_platform.errors import DamagedObject
from my_platform.storage.sealed import check_seal, record_of, seal, unseal

TABLE = pl.DataFrame(
    {
        "id": [1, 2, 3],
        "at": [datetime(2018, 4, 1), None, datetime(2018, 4, 2)],
        "text": ["größe", "", None],
        "blob": [b"\0", None, b"seal:"],
    }
)
RECORD = {"asset": "a", "partition": "2018-04-01", "rows": 3, "inputs": {"b": {"2018-04-01": "0" * 32}}}
SEALED = seal(TABLE, RECORD)


def test_table_and_record_come_back() -> None:
    assert_frame_equal(unseal(SEALED, "x"), TABLE)
    assert record_of(SEALED, "x") == RECORD


def test_some_columns_can_be_read() -> None:
    assert unseal(SEALED, "x", ["text", "id"]).columns == ["text", "id"]


def test_it_is_plain_parquet_for_everyone_else() -> None:
    assert_frame_equal(pl.read_parquet(io.BytesIO(SEALED)), TABLE)


@pytest.mark.parametrize("table", [pl.DataFrame(), TABLE.clear(), pl.DataFrame({"x": [None]})])
def test_tables_without_rows_or_columns_are_sealed_too(table: pl.DataFrame) -> None:
    sealed = seal(table, {})
    assert_frame_equal(unseal(sealed, "x"), table)
    assert record_of(sealed, "x") == {}


@pytest.mark.parametrize(
    "text",
    [
        "my_platform.seal",
        "my_platform.seal\x00\x00seal:" + "0" * 32,
        "seal:" + "0" * 32,
        'quotes " and \\ and größe',
    ],
)
def test_nothing_that_a_record_or_a_table_says_confuses_the_seal(text: str) -> None:
    table = pl.DataFrame({text: [text] * 3})
    sealed = seal(table, {text: text})
    assert_frame_equal(unseal(sealed, "x"), table)
    assert record_of(sealed, "x") == {text: text}


def test_every_flipped_bit_is_noticed() -> None:
    for position in range(len(SEALED)):
        for bit in range(8):
            damaged = bytearray(SEALED)
            damaged[position] ^= 1 << bit
            with pytest.raises(DamagedObject):
                check_seal(bytes(damaged), "x")


def test_every_truncation_is_noticed() -> None:
    for length in range(len(SEALED)):
        with pytest.raises(DamagedObject):
            check_seal(SEALED[:length], "x")


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_bytes_that_are_added_moved_or_zeroed_are_noticed(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(SEALED)))
    end = data.draw(st.integers(start, len(SEALED)))
    put = data.draw(st.binary(max_size=8) | st.just(bytes(end - start)))
    damaged = SEALED[:start] + put + SEALED[end:]
    if damaged != SEALED:
        with pytest.raises(DamagedObject):
            unseal(damaged, "x")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"not a table", bytes(4096)])
@pytest.mark.parametrize("read", [unseal, record_of])
def test_what_was_not_sealed_is_named(data: bytes, read: Any) -> None:
    with pytest.raises(DamagedObject, match=r"^lake/a/1.parquet: the object has no seal; it is cut short"):
        read(data, "lake/a/1.parquet")


def test_parquet_of_someone_else_is_no_object_of_the_platform() -> None:
    buffer = io.BytesIO()
    TABLE.write_parquet(buffer)
    with pytest.raises(DamagedObject, match="has no seal"):
        unseal(buffer.getvalue(), "x")


def test_the_message_names_the_object_and_the_way_out() -> None:
    damaged = SEALED.replace(b"PAR1", b"PAR2")
    with pytest.raises(
        DamagedObject, match=r"^lake/a/1.parquet: its bytes are not those that were written.*refresh"
    ):
        unseal(damaged, "lake/a/1.parquet")
