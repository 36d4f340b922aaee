"""Raw and validated tables: from landed files to partitions that keep their contract."""

import io
from collections.abc import Iterator
from datetime import date
from typing import Any

import polars as pl

from my_platform.errors import Refused
from my_platform.incremental.declare import EPOCH, EXPECTED, Asset, Batch, Grain, Produced, Read, same
from my_platform.quality.contracts import Contract, check_columns, split_rows

LANDED = "landing:"
_UNITS_A_DAY = {"days": 1, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
# The days that Python and people can tell, the years 1 to 9999, counted from 1970.
_FIRST_DAY, _LAST_DAY = (day.toordinal() - EPOCH for day in (date.min, date.max))


def raw_table(
    name: str, contract: Contract, *, source: str, grain: Grain = Grain.DAY, **catalogue: Any
) -> Asset:
    """What landed of a table: its rows as they came, with the contract's column types.

    Args:
        source: the folder below landing, or for ``Grain.ONCE`` the file name without its suffix.
    """

    def compute(batch: Batch) -> Iterator[tuple[str, Produced | Exception]]:
        for key in batch.keys:
            try:
                yield key, read_landed(batch.landed(key), contract)
            except EXPECTED as error:
                yield key, error

    return Asset(
        name=name,
        grain=grain,
        reads={"landed": Read(f"{LANDED}{source}")},
        compute=compute,
        code=(read_landed, contract.model),
        source=source,
        columns=contract.catalogue,
        **{"group": "raw", "kinds": ("polars", "parquet"), **catalogue},
    )


def validated_table(name: str, raw: Asset, contract: Contract, **catalogue: Any) -> Asset:
    """The rows of a raw table that keep its contract, sorted; the others go to quarantine with the reason."""

    def compute(batch: Batch) -> Iterator[tuple[str, Produced | Exception]]:
        for key in batch.keys:
            try:
                (table,) = batch.inputs("landed", key).values()
                yield key, validate(table, contract, key)
            except EXPECTED as error:
                yield key, error

    return Asset(
        name=name,
        grain=raw.grain,
        reads={"landed": same(raw.name)},
        compute=compute,
        code=(validate, contract.model),
        parameters={
            "sort_by": contract.sort_by,
            "time": contract.time,
            "at_least_rows": contract.at_least_rows,
            "most_bad_share": contract.most_bad_share,
        },
        columns=contract.catalogue,
        **{"group": "validated", "kinds": ("polars", "pandera"), **catalogue},
    )


def read_landed(files: list[tuple[str, bytes]], contract: Contract) -> Produced:
    """The rows of a landed file.

    Raises:
        Refused: there are several files for the partition, the file cannot be read, or its columns or types
            are not the contract's.
    """
    if len(files) > 1:
        raise Refused(
            f"{' and '.join(path for path, _ in files)} are for the same partition; leave one of them in landing"
        )
    ((path, data),) = files
    if not data:
        raise Refused(f"{path}: the file is empty (0 bytes); deliver it again")
    try:
        table = _parse(path, data, contract)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        kind = "a Parquet file" if path.endswith(".parquet") else "a CSV file of the contract's types"
        raise Refused(f"{path}: cannot be read as {kind}: {first_line}. Deliver it again") from error
    check_columns(table.schema, contract, path)
    exact = table.select(_exactly(table[column], kind, path) for column, kind in contract.schema.items())
    return Produced(exact, metadata={"file": path, "file_bytes": len(data)})


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


def validate(table: pl.DataFrame, contract: Contract, partition: str) -> Produced:
    """The valid rows of a partition, and the quarantined ones beside them."""
    split = split_rows(table, contract, partition)
    return Produced(
        split.valid,
        split.quarantined,
        {
            "landed_rows": table.height,
            "valid_rows": split.valid.height,
            "quarantined_rows": split.quarantined.height,
        },
    )


def _parse(path: str, data: bytes, contract: Contract) -> pl.DataFrame:
    if path.endswith(".parquet"):
        return pl.read_parquet(io.BytesIO(data))
    table = pl.read_csv(io.BytesIO(data), infer_schema=False)
    return table.with_columns(
        _typed(table[name], kind) for name, kind in contract.schema.items() if name in table.columns
    )


def _typed(text: pl.Series, kind: pl.DataType) -> pl.Series:
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
