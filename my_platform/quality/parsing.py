"""The rows of landed files: Parquet and CSV, read to the contract's types without changing a value."""

import io
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from my_platform.errors import Refused
from my_platform.incremental.declare import EPOCH, Produced
from my_platform.incremental.memory import table_bytes
from my_platform.incremental.parts import Parts, write_part
from my_platform.quality.columns import Columns, as_table, conform
from my_platform.storage.limits import UNPACKING_FAILS, unpacked_pieces

_UNITS_A_DAY = {"days": 1, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
# The days that Python and people can tell, the years 1 to 9999, counted from 1970.
_FIRST_DAY, _LAST_DAY = (day.toordinal() - EPOCH for day in (date.min, date.max))
_UNREADABLE = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    EOFError,
    OSError,
    ValueError,
    zlib.error,
)
# Sizes of a table while it is read from Parquet; of the text of a CSV file while it is parsed.
_READ_BY = 2.5
_CSV_GROWS_BY = 4
# What polars holds of a CSV file, beside its text, while it gives some rows at a time: measured as 115 MB with 2 threads.
_CSV_READ_AHEAD_BYTES = 128_000_000


def read_landed(files: list[tuple[str, bytes]], columns: Columns) -> Produced:
    """The rows of a landed file, in the order of the file.

    Raises:
        Refused: there are several files for the partition, or the file cannot be read.
        OtherColumns: its columns or types are not the contract's, and the contract does not provide for it.
    """
    if len(files) > 1:
        raise Refused(
            f"{' and '.join(path for path, _ in files)} are for the same partition; leave one of them in landing"
        )
    ((path, data),) = files
    if not data:
        raise Refused(f"{path}: the file is empty (0 bytes); deliver it again")
    try:
        table = _parse(path, data, columns)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    return _typed(table, columns, path, len(data))


def _typed(table: pl.DataFrame, columns: Columns, path: str, size: int) -> Produced:
    rows, differences = conform(table, columns, path, typed=path.endswith(".parquet"))
    exact = rows.select(_exactly(rows[column], kind, path) for column, kind in columns.types.items())
    other = {"columns": as_table(differences)} if differences else {}
    return Produced(exact, metadata={"file": path, "file_bytes": size, **other})


def _unreadable(path: str, error: BaseException) -> Refused:
    first_line = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    kind = "a Parquet file" if path.endswith(".parquet") else "a CSV file of the contract's types"
    return Refused(f"{path}: cannot be read as {kind}: {first_line}. Deliver it again")


def landed_bytes(path: str, data: bytes, columns: Columns) -> int:
    """What reading a landed file takes in memory beside its bytes; of a broken one nothing."""
    if not path.endswith(".parquet"):
        unpacked = _text_bytes(path, data)
        return unpacked + (unpacked or len(data)) * _CSV_GROWS_BY
    try:
        rows = pl.scan_parquet(io.BytesIO(data)).select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        return 0
    return int(table_bytes(rows, columns.types) * _READ_BY)


def read_landed_in_parts(
    file: tuple[str, bytes], columns: Columns, piece_bytes: int, folder: Path
) -> Produced:
    """What ``read_landed`` gives of a file whose rows do not fit into memory, in parts that lie in a folder.

    Raises:
        Refused, OtherColumns: as ``read_landed`` does.
    """
    path, data = file
    files: list[Path] = []
    rows = 0
    about: Mapping[str, Any] = {}
    pieces = _pieces if path.endswith(".parquet") else _csv_pieces
    for piece in pieces(path, data, columns, piece_bytes):
        made = _typed(piece, columns, path, len(data))
        about = made.metadata
        files.append(write_part(made.table, folder / f"{len(files)}.arrow"))
        rows += made.table.height
        schema = made.table.schema
    parts = Parts(tuple(files), rows, schema)
    return Produced.of(parts, metadata={**about, "computed": f"in {len(files)} parts"})


def _pieces(path: str, data: bytes, columns: Columns, piece_bytes: int) -> Iterator[pl.DataFrame]:
    try:
        whole = pl.scan_parquet(io.BytesIO(data))
        rows = whole.select(pl.len()).collect().item()
        at_once = max(1, piece_bytes // max(table_bytes(1, columns.types), 1))
        for start in range(0, max(rows, 1), at_once):
            yield whole.slice(start, at_once).collect()
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def least_bytes(path: str, data: bytes) -> int:
    """What ``read_landed_in_parts`` takes in memory at least, the file's own bytes among it."""
    if path.endswith(".parquet"):
        return len(data) * 2
    return len(data) + _text_bytes(path, data) + _CSV_READ_AHEAD_BYTES


def _text_bytes(path: str, data: bytes) -> int:
    """What a CSV file takes unpacked; 0 where it is not packed, or what can be unpacked of a broken one."""
    size = 0
    with suppress(*UNPACKING_FAILS):
        for piece in unpacked_pieces(path, data) if not path.endswith(".csv") else ():
            size += len(piece)
    return size


def _csv_pieces(path: str, data: bytes, columns: Columns, piece_bytes: int) -> Iterator[pl.DataFrame]:
    """The rows of a CSV file in order, by the same parser as a whole one; one frame without rows where it has none."""
    try:
        whole = pl.scan_csv(_text(path, data), infer_schema=False)
        names = whole.collect_schema().names()
        at_once = max(1, piece_bytes // table_bytes(1, dict.fromkeys(names, pl.String())))
        empty = True
        for piece in whole.collect_batches(chunk_size=at_once, engine="streaming", lazy=True):
            if piece.height:
                empty = False
                yield _typed_text(piece, columns)
        if empty:
            yield _typed_text(pl.DataFrame(schema=dict.fromkeys(names, pl.String())), columns)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _text(path: str, data: bytes) -> io.BytesIO:
    """The text of a CSV file, unpacked where it is compressed."""
    if path.endswith(".csv"):
        return io.BytesIO(data)
    text = io.BytesIO()
    for piece in unpacked_pieces(path, data):
        text.write(piece)
    text.seek(0)
    return text


def _exactly(column: pl.Series, kind: pl.DataType, path: str) -> pl.Series:
    """A column with its times in the contract's unit; Refused where that would change one, or none can tell it."""
    units = column.dtype.time_unit if isinstance(column.dtype, pl.Datetime) else "days"
    if column.dtype != pl.Date and units == "days":
        return column
    numbers = column.to_physical()
    days = numbers // _UNITS_A_DAY[units]
    told = (days >= _FIRST_DAY) & (days <= _LAST_DAY)
    beyond = numbers.filter(~told)
    if len(beyond):
        raise Refused(
            f"{path}: column {column.name} has a time outside of the years 1 to 9999 ({beyond[0]} {units} since 1970); "
            "deliver the file again"
        )
    if units == "days":
        return column
    assert isinstance(kind, pl.Datetime)
    times = column.dt.replace_time_zone(None)
    exact = times.cast(kind, strict=False)
    changed = times.filter(~exact.cast(times.dtype, strict=False).eq_missing(times))
    if len(changed):
        raise Refused(
            f"{path}: column {column.name} has times finer than {kind.time_unit} or beyond its range, such as "
            f"{changed.cast(pl.String)[0]}; deliver it in {kind.time_unit}"
        )
    return exact


def _parse(path: str, data: bytes, columns: Columns) -> pl.DataFrame:
    if path.endswith(".parquet"):
        return pl.read_parquet(io.BytesIO(data))
    return _typed_text(pl.read_csv(io.BytesIO(data), infer_schema=False), columns)


def _typed_text(table: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    """A table of texts with the contract's columns as the contract's types."""
    landed = {old: new for old, new in columns.renames.items() if new not in table.columns}
    names = {name: landed.get(name, name) for name in table.columns}
    return table.with_columns(
        as_type(table[name], columns.types[own]) for name, own in names.items() if own in columns.types
    )


def as_type(text: pl.Series, kind: pl.DataType) -> pl.Series:
    """A column of a CSV file as the contract's type.

    Raises:
        ValueError, pl.exceptions.PolarsError: a value is not written as that type is.
    """
    if isinstance(kind, pl.Datetime):
        digits = {"ms": 3, "us": 6, "ns": 9}[kind.time_unit]
        form = rf"^\d{{4}}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{{1,{digits}}})?(Z|\+00:?00)?$"
        _require(text, form, f"a UTC time in {kind.time_unit} such as 2018-04-01 12:30:00")
        plain = text.str.replace("T", " ", literal=True).str.replace(r"(Z|\+00:?00)$", "")
        return plain.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit=kind.time_unit, strict=True)
    if kind == pl.Date:
        _require(text, r"^\d{4}-\d\d-\d\d$", "a day such as 2018-04-01")
        return text.str.to_date("%Y-%m-%d", strict=True)
    if kind == pl.Boolean:
        _require(text, "^(?i:true|false|0|1)$", "true or false")
        return text.str.to_lowercase().is_in(["true", "1"])
    return text.cast(kind, strict=True)


def _require(text: pl.Series, form: str, expected: str) -> None:
    other = text.filter(~text.str.contains(form))
    if len(other):
        raise ValueError(f"column {text.name}: `{other[0]}` is not {expected}")
