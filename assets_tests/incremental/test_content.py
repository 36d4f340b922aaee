"""Data versions: golden vectors, the definition in docs/data-versions.md spelled out, and what does not enter."""

import io
import struct
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing.parametric import dataframes

from my_platform.errors import PlatformError
from my_platform.incremental.content import data_version, type_name

NAN, INFINITE = float("nan"), float("inf")
UTC = UTC

# Values, type, its name in a version, and the version of a table with this one column, named `x`.
GOLDEN: list[tuple[list[Any], pl.DataType, str, str]] = [
    ([True, False, None], pl.Boolean(), "bool", "0a3eb5466b4d4d4d03c284d7867e32bd"),
    ([-128, 0, 127, None], pl.Int8(), "i8", "65146e05dca0cf7ef41d2294b909705e"),
    ([-32768, 0, 32767], pl.Int16(), "i16", "21c4b67bd96b8397ee188207cc150aef"),
    ([-(2**31), 0, 2**31 - 1], pl.Int32(), "i32", "3b3d2943256a7134d6d3e047162d0622"),
    ([-(2**63), 0, 2**63 - 1, None], pl.Int64(), "i64", "4deb2ae867b4ae27bc3d0fd01ffdc471"),
    ([1, 2, 3], pl.Int64(), "i64", "506697b9096f8021d106cf99dbf22c94"),
    ([0, 255, None], pl.UInt8(), "u8", "8ce75de377b0f75cf95ac36642f227f8"),
    ([0, 65535], pl.UInt16(), "u16", "3fd381adcff5e016436d03ffefacdde6"),
    ([0, 2**32 - 1], pl.UInt32(), "u32", "9c58f92b0e310699483bf53a42321e60"),
    ([0, 2**64 - 1, None], pl.UInt64(), "u64", "3b1da648a81c5425005c87cfaec74c02"),
    ([0.5, -0.0, NAN, INFINITE, None], pl.Float32(), "f32", "2cb1ccd09052cd6d7412ce8362a7c822"),
    ([0.1, -0.0, NAN, -INFINITE, None], pl.Float64(), "f64", "6255ec52f1c245361464738fab03ce31"),
    (["", "a", "straße", "日本語", "🎉", None], pl.String(), "str", "667639c939e8e2c666c846ea3e5bf40e"),
    (["plain", "text"], pl.String(), "str", "4c44dc0d9ec2de776ce3d9abc109c193"),
    ([b"", b"\x00\xff", None], pl.Binary(), "bytes", "c49ec1db4a9c390a1b01f556dbdd20b2"),
    ([date(1969, 12, 31), date(2018, 4, 1), None], pl.Date(), "date", "92583e2a45956974fd852c0ef918a4e1"),
    ([time(0), time(23, 59, 59, 999999), None], pl.Time(), "time", "671b490528ed55b4f17d2eb15af9ade9"),
    ([None, None], pl.Null(), "null", "5150ef9ca05e6e7750db886d142ee645"),
    (
        [datetime(1969, 12, 31, 23), datetime(2018, 4, 1, 1, 2, 3, 456789), None],
        pl.Datetime("us"),
        "datetime[us,]",
        "07106e7612417fb5cc24b234fcc30592",
    ),
    ([datetime(2018, 4, 1), None], pl.Datetime("ms"), "datetime[ms,]", "7907d81a680089c57e80024c2e9a4cb1"),
    ([datetime(2018, 4, 1), None], pl.Datetime("ns"), "datetime[ns,]", "af8a73aded7e79aba3d10bd9e9721397"),
    (
        [datetime(2018, 4, 1, tzinfo=UTC), None],
        pl.Datetime("us", "UTC"),
        "datetime[us,UTC]",
        "f8ecb6a2a6bcbaa249e3ca4619551364",
    ),
    (
        [timedelta(days=-1), timedelta(microseconds=1), None],
        pl.Duration("us"),
        "duration[us]",
        "fdd33cca61c3a6a853df8f233d6119ba",
    ),
    (["b", "a", None, "b"], pl.Categorical(), "category", "a8c1fca22abee5af893cd1a21456e9c2"),
    (["b", "a", None, "b"], pl.Enum(["a", "b"]), "category", "a8c1fca22abee5af893cd1a21456e9c2"),
    (
        [Decimal("1.50"), Decimal("-0.05"), Decimal("0"), None],
        pl.Decimal(10, 2),
        "decimal[10,2]",
        "3caf01065097a755d881a55fe302f94b",
    ),
    (
        [Decimal("12345678901234567890"), None],
        pl.Decimal(38, 0),
        "decimal[38,0]",
        "fc220a807a7ea9a740c9fbc3705c0cb9",
    ),
    ([[1, None], [], None, [2, 3, 4]], pl.List(pl.Int64()), "list[i64]", "3962dbfe38944c3d69106a3213ed373f"),
    ([["é", ""], None, [None]], pl.List(pl.String()), "list[str]", "8fa29021f681f96d38079ecfde1fd008"),
    (
        [[[1], []], [None], None],
        pl.List(pl.List(pl.Int32())),
        "list[list[i32]]",
        "9ef6c722fc3701874ab8d3fd20e99bdc",
    ),
    ([[1, 2], None, [3, None]], pl.Array(pl.Int16(), 2), "list[i16]", "699825e148c2ddd4939c3e3772f8fb77"),
    (
        [{"a": 1, "b": "x"}, None, {"a": None, "b": None}],
        pl.Struct({"a": pl.Int64(), "b": pl.String()}),
        'struct["a":i64,"b":str]',
        "2a5c448c39bf892bdfb09c3c8170447a",
    ),
    (
        [[{"a": 0.5}], [], None],
        pl.List(pl.Struct({"a": pl.Float64()})),
        'list[struct["a":f64]]',
        "8131e817299ec0a0cc9572c74aa289e2",
    ),
]


@pytest.mark.parametrize(
    ("values", "dtype", "name", "version"), GOLDEN, ids=[f"{n}-{len(v)}-{g[:4]}" for v, _, n, g in GOLDEN]
)
def test_golden_vectors_of_one_column(values: list[Any], dtype: pl.DataType, name: str, version: str) -> None:
    column = pl.Series("x", values, dtype=dtype)
    assert type_name(column.dtype) == name
    assert data_version(column.to_frame()) == version


def test_golden_vector_of_a_table_of_several_columns() -> None:
    table = pl.DataFrame(
        {
            "id": [1, 2, 3],
            "größe": ["klein", None, "groß"],
            "at": [datetime(2018, 4, 1, 12), None, datetime(2018, 4, 2)],
            "amount": [1.5, NAN, None],
        }
    )
    assert data_version(table) == "4909170862f54fe02a652424c31cc44a"


@pytest.mark.parametrize(
    ("table", "version"),
    [
        (pl.DataFrame(), "10c11077a88219cb015bd181224c1cd3"),
        (pl.DataFrame(schema={"x": pl.Int64, "y": pl.String}), "dce5c3c4c7272b33823907e0241f375d"),
        (
            pl.DataFrame(schema={"x": pl.List(pl.Struct({"a": pl.String}))}),
            "5dc59516bedecdca0eb84efe573b602e",
        ),
    ],
    ids=["no-columns", "no-rows", "no-rows-nested"],
)
def test_golden_vectors_of_empty_tables(table: pl.DataFrame, version: str) -> None:
    assert data_version(table) == version


# The definition once more, value by value. -----------------------------------------------------------------

_PACKED = {
    "bool": "<?", "i8": "<b", "i16": "<h", "i32": "<i", "i64": "<q", "u8": "<B", "u16": "<H", "u32": "<I",
    "u64": "<Q", "f32": "<f", "f64": "<d", "date": "<i", "time": "<q", "datetime": "<q", "duration": "<q",
}  # fmt: skip
_NAN = {"f32": bytes.fromhex("0000c07f"), "f64": bytes.fromhex("000000000000f87f")}


def defined_version(table: pl.DataFrame) -> str:
    whole = b"my_platform/table/1" + struct.pack("<QQ", table.height, table.width)
    for column in table.get_columns():
        name = column.name.encode()
        whole += struct.pack("<Q", len(name)) + name + defined_column(column)
    return xxhash.xxh3_128_hexdigest(whole)


def defined_column(column: pl.Series) -> bytes:
    kind = type_name(column.dtype).encode()
    header = struct.pack("<QQ", len(kind), len(column)) + kind
    return xxhash.xxh3_128_digest(header + defined_values(column.dtype, _physical(column)))


def defined_values(dtype: Any, values: list[Any]) -> bytes:
    kind = type_name(dtype)
    mask = b"\0"
    if None in values:
        mask = b"\1" + bytes(value is None for value in values)
    if kind == "null":
        return mask
    if kind in ("str", "bytes", "category"):
        blobs = [b"" if v is None else v if isinstance(v, bytes) else v.encode() for v in values]
        return mask + b"".join(struct.pack("<q", len(blob)) for blob in blobs) + b"".join(blobs)
    if kind.startswith("list"):
        lengths = b"".join(struct.pack("<q", len(v or [])) for v in values)
        inner = [item for v in values for item in v or []]
        return mask + lengths + struct.pack("<Q", len(inner)) + defined_values(dtype.inner, inner)
    if kind.startswith("struct"):
        digests = []
        for field in dtype.fields:
            inner_kind = type_name(field.dtype).encode()
            fields = [None if v is None else v[field.name] for v in values]
            header = struct.pack("<QQ", len(inner_kind), len(values)) + inner_kind
            digests.append(xxhash.xxh3_128_digest(header + defined_values(field.dtype, fields)))
        return mask + b"".join(digests)
    code = _PACKED[kind.partition("[")[0]]
    packed = (
        _NAN[kind] if isinstance(v, float) and v != v else struct.pack(code, False if v is None else v)
        for v in values
    )
    return mask + b"".join(packed)


def _physical(column: pl.Series) -> list[Any]:
    """Days, microseconds and the like as numbers, text as it is."""
    if type_name(column.dtype) in ("category",) or column.dtype.is_nested():
        return column.to_list()
    return column.to_physical().to_list()


PLAIN = [
    pl.Boolean,
    pl.Int8,
    pl.Int16,
    pl.Int32,
    pl.Int64,
    pl.UInt8,
    pl.UInt16,
    pl.UInt32,
    pl.UInt64,
    pl.Float32,
    pl.Float64,
    pl.String,
    pl.Binary,
    pl.Date,
    pl.Time,
    pl.Datetime("us"),
    pl.Datetime("ns", "UTC"),
    pl.Duration("ms"),
    pl.Categorical,
    pl.Null,
]
NESTED = [
    pl.List(pl.Int32),
    pl.List(pl.List(pl.String)),
    pl.Struct({"a": pl.Int64, "b": pl.List(pl.String)}),
    pl.List(pl.Struct({"a": pl.Float64})),
]


@settings(max_examples=60, deadline=None)
@given(dataframes(max_cols=4, max_size=6, allowed_dtypes=[*PLAIN, *NESTED], allow_null=True))
def test_the_version_is_what_the_definition_says(table: pl.DataFrame) -> None:
    assert data_version(table) == defined_version(table)


# What does not enter ---------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    table=dataframes(
        max_cols=4, min_size=2, max_size=8, allowed_dtypes=[*PLAIN[:-1], *NESTED], allow_null=True
    ),
    data=st.data(),
)
def test_chunks_slices_row_groups_and_compression_do_not_enter(
    table: pl.DataFrame, data: st.DataObject
) -> None:
    version = data_version(table)
    cut = data.draw(st.integers(0, table.height))
    chunked = pl.concat([table[:cut], table[cut:]], rechunk=False)
    assert data_version(chunked) == version
    assert data_version(pl.concat([table, table])[table.height :]) == version
    buffer = io.BytesIO()
    chunked.write_parquet(
        buffer,
        compression=data.draw(st.sampled_from(["zstd", "snappy", "uncompressed"])),
        row_group_size=data.draw(st.integers(1, 8)),
    )
    assert data_version(pl.read_parquet(io.BytesIO(buffer.getvalue()))) == version


def test_every_golden_column_survives_parquet() -> None:
    for values, dtype, name, version in GOLDEN:
        buffer = io.BytesIO()
        pl.DataFrame({"x": pl.Series(values, dtype=dtype)}).write_parquet(buffer, row_group_size=1)
        read = pl.read_parquet(io.BytesIO(buffer.getvalue()))
        assert (name, data_version(read)) == (name, version)


def test_what_lies_under_a_null_does_not_enter() -> None:
    keep = pl.Series([True, False, True])
    hidden = pl.DataFrame(
        {"n": [1, 2, 3], "s": ["a", "b", "c"], "l": [[1], [2, 3], [4]], "d": [{"f": 1}, {"f": 2}, {"f": 3}]}
    ).select(pl.when(keep).then(pl.all()))
    said = pl.DataFrame(
        {"n": [1, None, 3], "s": ["a", None, "c"], "l": [[1], None, [4]], "d": [{"f": 1}, None, {"f": 3}]}
    )
    assert data_version(hidden) == data_version(said)


def test_the_codes_of_a_category_do_not_enter() -> None:
    one = pl.DataFrame({"x": pl.Series(["b", "a", None], dtype=pl.Enum(["a", "b"]))})
    two = pl.DataFrame({"x": pl.Series(["b", "a", None], dtype=pl.Enum(["b", "unused", "a"]))})
    assert data_version(one) == data_version(two)


def test_all_nan_are_one_value() -> None:
    bits = [0x7FF8000000000000, 0xFFF8000000000001, 0x7FF0000000000001]
    others = [struct.unpack("<d", struct.pack("<Q", b))[0] for b in bits]
    assert data_version(pl.DataFrame({"x": others})) == data_version(pl.DataFrame({"x": [NAN] * 3}))


# What does enter -------------------------------------------------------------------------------------------


def text(*values: str | None) -> pl.DataFrame:
    return pl.DataFrame({"x": pl.Series(values, dtype=pl.String)})


def numbers(*values: Any, dtype: Any = pl.Int64, name: str = "x") -> pl.DataFrame:
    return pl.DataFrame({name: pl.Series(values, dtype=dtype)})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(numbers(1, 2), numbers(2, 1), id="row order"),
        pytest.param(numbers(1, 2), numbers(1, 2, name="y"), id="column name"),
        pytest.param(numbers(1, 2), numbers(1, 2, dtype=pl.Int32), id="type"),
        pytest.param(numbers(1, 2), numbers(1, 2, dtype=pl.UInt64), id="sign"),
        pytest.param(numbers(0, dtype=pl.Date), numbers(0, dtype=pl.Int32), id="day and number"),
        pytest.param(numbers(0, 1), numbers(None, 1), id="null and zero"),
        pytest.param(numbers(None, 1), numbers(1, None), id="place of a null"),
        pytest.param(numbers(1.0, NAN, dtype=pl.Float64), numbers(1.0, None, dtype=pl.Float64), id="NaN and null"),
        pytest.param(numbers(0.0, dtype=pl.Float64), numbers(-0.0, dtype=pl.Float64), id="sign of zero"),
        pytest.param(text("", "a"), text(None, "a"), id="null and empty text"),
        pytest.param(text("ab", "c"), text("a", "bc"), id="boundary between texts"),
        pytest.param(text("a", ""), text("", "a"), id="boundary at an empty text"),
        pytest.param(text("é"), text("e\u0301"), id="Unicode form"),
        pytest.param(text("a"), text("a", "a"), id="number of rows"),
        pytest.param(pl.DataFrame({"a": [1], "b": [2]}), pl.DataFrame({"b": [2], "a": [1]}), id="column order"),
        pytest.param(pl.DataFrame({"a": [1], "b": [2]}), pl.DataFrame({"a": [2], "b": [1]}), id="column values"),
        pytest.param(pl.DataFrame({"a": [1], "b": [2]}), pl.DataFrame({"a": [1]}), id="number of columns"),
        pytest.param(pl.DataFrame({"x": [[1], [2]]}), pl.DataFrame({"x": [[1, 2], []]}), id="boundary between lists"),
        pytest.param(
            pl.DataFrame({"x": [[], [1]]}), pl.DataFrame({"x": [None, [1]]}), id="empty list and null"
        ),
        pytest.param(
            pl.DataFrame({"x": [{"a": None}, {"a": 1}]}), pl.DataFrame({"x": [None, {"a": 1}]}), id="null field and null"
        ),
        pytest.param(
            pl.DataFrame({"x": [{"a": 1, "b:i64,c": 2}]}), pl.DataFrame({"x": [{"a:i64,b": 1, "c": 2}]}), id="field names"
        ),
        pytest.param(
            numbers(0, dtype=pl.Datetime("us")), numbers(0, dtype=pl.Datetime("ms")), id="unit of time"
        ),
        pytest.param(
            numbers(0, dtype=pl.Datetime("us")), numbers(0, dtype=pl.Datetime("us", "UTC")), id="time zone"
        ),
        pytest.param(
            numbers(Decimal("1.5"), dtype=pl.Decimal(9, 1)), numbers(Decimal("1.5"), dtype=pl.Decimal(9, 2)), id="scale"
        ),
        pytest.param(
            pl.DataFrame(schema={"x": pl.Int64}), pl.DataFrame(schema={"x": pl.String}), id="type of an empty table"
        ),
    ],
)  # fmt: skip
def test_other_content_has_another_version(one: pl.DataFrame, other: pl.DataFrame) -> None:
    assert data_version(one) != data_version(other)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.none() | st.text(max_size=3), max_size=4),
    st.lists(st.none() | st.text(max_size=3), max_size=4),
)
def test_columns_of_text_have_one_version_only_if_they_are_equal(
    one: list[str | None], other: list[str | None]
) -> None:
    assert (data_version(text(*one)) == data_version(text(*other))) == (one == other)


@pytest.mark.parametrize("dtype", [pl.Object, pl.Int128, pl.Float16])
def test_a_type_without_a_canonical_form_is_refused(dtype: Any) -> None:
    with pytest.raises(PlatformError, match=rf"column x .*{dtype}.*cast it"):
        data_version(pl.DataFrame({"x": pl.Series([1], dtype=dtype)}))
