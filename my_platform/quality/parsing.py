"""The rows of landed files: Parquet and CSV, read to the contract's types without changing a value."""

import io
from datetime import date

import polars as pl

from my_platform.errors import Refused
from my_platform.incremental.declare import EPOCH, Produced
from my_platform.quality.columns import Columns, as_table, conform

_UNITS_A_DAY = {"days": 1, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
# The days that Python and people can tell, the years 1 to 9999, counted from 1970.
_FIRST_DAY, _LAST_DAY = (day.toordinal() - EPOCH for day in (date.min, date.max))


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
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        kind = "a Parquet file" if path.endswith(".parquet") else "a CSV file of the contract's types"
        raise Refused(f"{path}: cannot be read as {kind}: {first_line}. Deliver it again") from error
    rows, differences = conform(table, columns, path, typed=path.endswith(".parquet"))
    exact = rows.select(_exactly(rows[column], kind, path) for column, kind in columns.types.items())
    other = {"columns": as_table(differences)} if differences else {}
    return Produced(exact, metadata={"file": path, "file_bytes": len(data), **other})


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
    table = pl.read_csv(io.BytesIO(data), infer_schema=False)
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
