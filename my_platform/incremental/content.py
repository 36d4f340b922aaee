"""Data versions: a hash of what a table says, not of how it is stored.

The version of a table is XXH3-128 over its columns in order. Each column counts by its name, its logical
type, the number of rows, the mask of its nulls, and its values with nulls zeroed, little-endian; text by
the lengths and the bytes. Chunks, row groups, compression, file metadata and library versions do not
enter. Row order does: tables are sorted by the functions that make them. ``docs/data-versions.md`` states
the definition in full, and ``assets_tests/incremental/test_content.py`` holds golden vectors.
"""

import json
import struct

import numpy as np
import polars as pl
import xxhash

from my_platform.errors import PlatformError

SCHEME = b"my_platform/table/1"

_PLAIN = {
    pl.Boolean: "bool",
    pl.Int8: "i8",
    pl.Int16: "i16",
    pl.Int32: "i32",
    pl.Int64: "i64",
    pl.UInt8: "u8",
    pl.UInt16: "u16",
    pl.UInt32: "u32",
    pl.UInt64: "u64",
    pl.Float32: "f32",
    pl.Float64: "f64",
    pl.String: "str",
    pl.Binary: "bytes",
    pl.Date: "date",
    pl.Time: "time",
    pl.Null: "null",
}


def type_name(dtype: pl.DataType) -> str:
    """The name under which a polars type counts in a data version, such as ``i64`` or ``datetime[us,UTC]``."""
    plain = _PLAIN.get(type(dtype))
    if plain is not None:
        return plain
    if isinstance(dtype, pl.Datetime):
        return f"datetime[{dtype.time_unit},{dtype.time_zone or ''}]"
    if isinstance(dtype, pl.Duration):
        return f"duration[{dtype.time_unit}]"
    if isinstance(dtype, pl.Enum | pl.Categorical):
        return "category"
    if isinstance(dtype, pl.Decimal):
        return f"decimal[{dtype.precision},{dtype.scale}]"
    if isinstance(dtype, pl.List | pl.Array):
        inner = dtype.inner
        assert isinstance(inner, pl.DataType)
        return f"list[{type_name(inner)}]"
    if isinstance(dtype, pl.Struct):
        fields = (f"{json.dumps(f.name)}:{type_name(f.dtype)}" for f in dtype.fields)  # type: ignore[arg-type]
        return f"struct[{','.join(fields)}]"
    raise PlatformError(f"is or holds {dtype}, a type without a data version; cast it to a plain type first")


def data_version(frame: pl.DataFrame) -> str:
    """The data version of a table: 32 hexadecimal digits.

    Raises:
        PlatformError: a column has a type without a canonical form (``pl.Object``).
    """
    total = xxhash.xxh3_128(SCHEME)
    total.update(struct.pack("<QQ", frame.height, frame.width))
    for column in frame.get_columns():
        name = column.name.encode()
        total.update(struct.pack("<Q", len(name)))
        total.update(name)
        total.update(column_digest(column))
    return total.hexdigest()


def column_digest(column: pl.Series) -> bytes:
    """The 16-byte digest of one column, its name left out."""
    digest = xxhash.xxh3_128()
    try:
        kind = type_name(column.dtype).encode()
    except PlatformError as error:
        raise PlatformError(f"column {column.name} {error}") from None
    digest.update(struct.pack("<QQ", len(kind), len(column)))
    digest.update(kind)
    _add_values(digest, column)
    return digest.digest()


def _add_values(digest: xxhash.xxh3_128, column: pl.Series) -> None:
    if column.null_count():
        digest.update(b"\x01")
        digest.update(_contiguous(column.is_null().to_numpy()))
    else:
        digest.update(b"\x00")
    dtype = column.dtype
    if isinstance(dtype, pl.Null):
        return
    if isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            digest.update(column_digest(column.struct.field(field.name)))
        return
    if isinstance(dtype, pl.List | pl.Array):
        lists = column.arr.to_list() if isinstance(dtype, pl.Array) else column
        lengths = lists.list.len().fill_null(0)
        digest.update(_contiguous(lengths.cast(pl.Int64).to_numpy()))
        values = lists.filter(lengths > 0).explode()
        digest.update(struct.pack("<Q", len(values)))
        _add_values(digest, values)
        return
    if isinstance(dtype, pl.Enum | pl.Categorical | pl.Decimal):
        column = column.cast(pl.String)
        dtype = column.dtype
    if isinstance(dtype, pl.String):
        texts = column.fill_null("") if column.null_count() else column
        digest.update(_contiguous(texts.str.len_bytes().cast(pl.Int64).to_numpy()))
        digest.update((texts.str.join("").item() or "").encode() if len(texts) else b"")
        return
    if isinstance(dtype, pl.Binary):
        blobs = [blob or b"" for blob in column.to_list()]
        digest.update(np.array([len(blob) for blob in blobs], dtype="<i8").tobytes())
        for blob in blobs:
            digest.update(blob)
        return
    digest.update(_contiguous(_numbers(column)))


def _numbers(column: pl.Series) -> np.ndarray:
    # Each of these calls is a query of its own, half a millisecond on any column: left out where it is idle.
    physical = column.to_physical() if column.dtype.is_temporal() else column
    if physical.null_count():
        physical = physical.fill_null(False if physical.dtype == pl.Boolean else 0)
    values = physical.to_numpy()
    if values.dtype.kind == "f":
        nan = np.isnan(values)
        if nan.any():
            values = np.where(nan, np.array(np.nan, dtype=values.dtype), values)
    return values.astype(values.dtype.newbyteorder("<"), copy=False)


def _contiguous(values: np.ndarray) -> memoryview | bytes:
    values = np.ascontiguousarray(values)
    return values.data.cast("B") if values.size else b""
