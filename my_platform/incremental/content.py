"""Data versions: a hash of what a table says, not of how it is stored.

The version of a table is XXH3-128 over its columns in order. Each column counts by its name, its logical
type, the number of rows, the mask of its nulls, and its values with nulls zeroed, little-endian; text by
the lengths and the bytes. Chunks, row groups, compression, file metadata and library versions do not
enter. Row order does: tables are sorted by the functions that make them. ``docs/data-versions.md`` states
the definition in full, and ``assets_tests/incremental/test_content.py`` holds golden vectors.
"""

import json
import struct
from collections.abc import Callable, Iterable

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


Chunks = Callable[[], Iterable[pl.Series]]
"""The values of a column, some at a time; read again with each call."""


def data_version(frame: pl.DataFrame) -> str:
    """The data version of a table: 32 hexadecimal digits.

    Raises:
        PlatformError: a column has a type without a canonical form (``pl.Object``).
    """

    def column(name: str) -> Chunks:
        whole = (frame.get_column(name),)
        return lambda: whole

    return version_of(frame.schema, frame.height, column)


def version_of(schema: pl.Schema, rows: int, column: Callable[[str], Chunks]) -> str:
    """The same of a table of which a part of a column is in memory at a time.

    Args:
        column: the values of a column by its name; how they are cut does not count.
    """
    total = xxhash.xxh3_128(SCHEME)
    total.update(struct.pack("<QQ", rows, len(schema)))
    for text, dtype in schema.items():
        name = text.encode()
        total.update(struct.pack("<Q", len(name)))
        total.update(name)
        try:
            total.update(_digest(column(text), dtype, rows))
        except PlatformError as error:
            raise PlatformError(f"column {text} {error}") from None
    return total.hexdigest()


def _digest(column: Chunks, dtype: pl.DataType, rows: int) -> bytes:
    """The 16-byte digest of one column, its name left out."""
    digest = xxhash.xxh3_128()
    kind = type_name(dtype).encode()
    digest.update(struct.pack("<QQ", len(kind), rows))
    digest.update(kind)
    _add_values(digest, column, dtype, rows)
    return digest.digest()


def _add_values(digest: xxhash.xxh3_128, column: Chunks, dtype: pl.DataType, rows: int) -> None:
    if any(chunk.null_count() for chunk in column()):
        digest.update(b"\x01")
        for chunk in column():
            digest.update(_contiguous(chunk.is_null().to_numpy()))
    else:
        digest.update(b"\x00")
    if isinstance(dtype, pl.Null):
        return
    if isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            inner = field.dtype
            assert isinstance(inner, pl.DataType)
            digest.update(_digest(_mapped(column, _field(field.name)), inner, rows))
        return
    if isinstance(dtype, pl.List | pl.Array):
        inner = dtype.inner
        assert isinstance(inner, pl.DataType)
        items = 0
        for chunk in column():
            lengths = _lengths(_lists(chunk))
            items += int(lengths.sum())
            digest.update(_contiguous(lengths.to_numpy()))
        digest.update(struct.pack("<Q", items))
        _add_values(digest, _mapped(column, _items), inner, items)
        return
    if isinstance(dtype, pl.Enum | pl.Categorical | pl.Decimal):
        column, dtype = _mapped(column, lambda chunk: chunk.cast(pl.String)), pl.String()
    if isinstance(dtype, pl.String):
        texts = _mapped(column, lambda chunk: chunk.fill_null("") if chunk.null_count() else chunk)
        for chunk in texts():
            digest.update(_contiguous(chunk.str.len_bytes().cast(pl.Int64).to_numpy()))
        for chunk in texts():
            digest.update((chunk.str.join("").item() or "").encode() if len(chunk) else b"")
        return
    if isinstance(dtype, pl.Binary):
        for chunk in column():
            sizes = chunk.bin.size().fill_null(0)
            digest.update(_contiguous(sizes.cast(pl.Int64).to_numpy()))
        for chunk in column():
            digest.update(b"".join(chunk.drop_nulls().to_list()))
        return
    for chunk in column():
        digest.update(_contiguous(_numbers(chunk)))


def _mapped(column: Chunks, change: Callable[[pl.Series], pl.Series]) -> Chunks:
    return lambda: (change(chunk) for chunk in column())


def _field(name: str) -> Callable[[pl.Series], pl.Series]:
    return lambda chunk: chunk.struct.field(name)


def _lists(chunk: pl.Series) -> pl.Series:
    return chunk.arr.to_list() if isinstance(chunk.dtype, pl.Array) else chunk


def _lengths(lists: pl.Series) -> pl.Series:
    return lists.list.len().fill_null(0).cast(pl.Int64)


def _items(chunk: pl.Series) -> pl.Series:
    lists = _lists(chunk)
    return lists.filter(_lengths(lists) > 0).explode()


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
