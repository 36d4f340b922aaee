"""What a sample file tells of its table: types, ranges, keys, and which column is which."""

import keyword
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from my_platform.errors import PlatformError

_MOST_CATEGORIES = 12
# A column of so few values for its rows may be an entity: a shop has many orders.
_ROWS_OF_AN_ENTITY = 3
# What the features of a domain call the target as a whole number.
IN_UNITS = "target_in_units"
_TAKEN = (
    *("score", "KNOWN_AT", "cluster", "label", "naive", "hour"),
    *(IN_UNITS, "last", "n_7d", "n_28d", "sum_7d", "sum_28d"),
    "Config",
)
# Classes that the file of contracts has beside those of the tables.
_OF_CONTRACTS = ("Contract", "Config")


@dataclass(frozen=True)
class SampleColumn:
    """A column as the sample has it.

    Attributes:
        low, high: of a number; None where there is none.
        categories: all values of a text of few values.
    """

    name: str
    type: pl.DataType
    nullable: bool
    unique: bool
    low: Any = None
    high: Any = None
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """A sample file: the table that it is of, its rows in the types of a contract, and its columns."""

    name: str
    path: Path
    rows: pl.DataFrame
    columns: Sequence[SampleColumn]

    def column(self, name: str, option: str) -> SampleColumn:
        """A column that an option names; raises PlatformError where there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise PlatformError(
            f"{option} {name}: {self.path} has no such column; it has {', '.join(self.rows.columns)}"
        )


@dataclass(frozen=True)
class Parts:
    """Which column of a table is which: what identifies a row, when it happens, of whom it is, and what is forecast."""

    key: str
    time: str
    entity: str
    target: str


def read_sample(path: Path) -> Sample:
    """Read a CSV or Parquet file.

    Raises:
        PlatformError: it is neither, cannot be read, is empty, or has columns that cannot be named in Python.
    """
    try:
        match path.suffix:
            case ".csv":
                rows = pl.read_csv(path, try_parse_dates=True, infer_schema_length=None)
            case ".parquet":
                rows = pl.read_parquet(path)
            case _:
                raise PlatformError(f"{path} is no sample; expected a .csv or .parquet file")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise PlatformError(f"{path} cannot be read as a sample: {str(error).splitlines()[0]}") from error
    odd = [
        name
        for name in [path.stem, *rows.columns]
        if not name.isidentifier() or keyword.iskeyword(name) or name in _TAKEN or name.startswith("_")
    ]
    if class_name(path.stem) in _OF_CONTRACTS:
        odd.append(path.stem)
    if odd:
        raise PlatformError(
            f"{path}: {', '.join(map(repr, odd))} cannot be a name in the domain; rename it: a letter, then letters, digits "
            f"and _, none of {', '.join(_TAKEN)}, and no table of the class {' or '.join(_OF_CONTRACTS)}"
        )
    if rows.is_empty():
        raise PlatformError(f"{path} has no row to learn from; take a larger sample")
    rows = rows.select(_plain(rows[name], path) for name in rows.columns)
    return Sample(path.stem, path, rows, [_column(rows[name]) for name in rows.columns])


def find_time(sample: Sample, given: str | None) -> str | None:
    """The column that says when a row happens; None where there is no time at all.

    Raises:
        PlatformError: the given one has no times or misses some, or there are several.
    """
    times = [c.name for c in sample.columns if c.type == pl.Datetime("us") and not c.nullable]
    if given is not None:
        sample.column(given, "--time")
        return _one_of(sample, [name for name in times if name == given], "--time", "times in every row")
    return _one_of(sample, times, "--time", "times in every row") if times else None


def find_parts(
    sample: Sample, *, key: str | None, time: str | None, entity: str | None, target: str | None
) -> Parts:
    """Which column is which, as it is given or as it can only be.

    Raises:
        PlatformError: a given column cannot be that, or there is no one column that can; with those that can.
    """
    for given, option in ((key, "--key"), (entity, "--entity"), (target, "--target")):
        if given is not None:
            sample.column(given, option)
    if target is not None and not _is_number(sample.column(target, "--target")):
        raise PlatformError(f"--target {target}: expected a number in every row of {sample.path}")
    at = find_time(sample, time)
    if at is None:
        raise PlatformError(
            f"{sample.path} has no column of dates with times in every row; a forecast needs to know when a row happens"
        )
    if (sample.rows[at].dt.microsecond() != 0).any():
        raise PlatformError(
            f"{sample.path}: {at} has parts of seconds, which features do not take; cut them off"
        )
    free = [column for column in sample.columns if column.name not in (at, key, entity, target)]
    if key is None:
        keys = [c.name for c in free if c.unique and c.type == pl.Int64()]
        key = _one_of(sample, keys, "--key", "a whole number of its own in every row")
    elif not (sample.column(key, "--key").unique and sample.rows.schema[key] == pl.Int64):
        raise PlatformError(f"--key {key}: expected a whole number of its own in every row of {sample.path}")
    free = [column for column in free if column.name != key]
    if entity is None:
        most = sample.rows.height / _ROWS_OF_AN_ENTITY
        kinds = (pl.Int64(), pl.String())
        found = [
            c.name
            for c in free
            if c.type in kinds and not c.nullable and 1 < sample.rows[c.name].n_unique() <= most
        ]
        entity = _one_of(sample, found, "--entity", "few values for its rows, such as the shop of an order")
    elif sample.column(entity, "--entity").nullable:
        raise PlatformError(f"--entity {entity}: rows of {sample.path} have none; leave them out")
    free = [column for column in free if column.name != entity]
    if target is None:
        numbers = [column.name for column in free if _is_number(column)]
        target = _one_of(sample, numbers, "--target", "a number in every row")
    if len({key, at, entity, target}) < 4:
        raise PlatformError(f"{sample.path}: key, time, entity and target have to be four columns")
    return Parts(key, at, entity, target)


def class_name(table: str) -> str:
    """The name of a table's contract class: `hourly_sales` gives HourlySales."""
    return "".join(word[:1].upper() + word[1:] for word in table.split("_"))


def _is_number(column: SampleColumn) -> bool:
    return column.type.is_numeric() and not column.nullable


def _one_of(sample: Sample, found: Sequence[str], option: str, having: str) -> str:
    called_so = [name for name in found if name.upper().endswith("ID")]
    if len(found) == 1 or (option != "--target" and len(called_so) == 1):
        return (called_so or found)[0]
    if found:
        raise PlatformError(
            f"{sample.path}: {', '.join(found)} all have {having}; say with {option} which one it is"
        )
    raise PlatformError(f"{sample.path}: no column has {having}, which {option} would name; add one")


def _plain(column: pl.Series, path: Path) -> pl.Series:
    """The column in one of the types that contracts have."""
    kind = column.dtype
    if kind.is_integer():
        return column.cast(pl.Int64)
    if kind.is_float():
        return column.cast(pl.Float64).fill_nan(None)
    if kind in (pl.String, pl.Boolean):
        return column
    if kind == pl.Date:
        return column.cast(pl.Datetime("us"))
    if isinstance(kind, pl.Datetime):
        utc = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if kind.time_zone else column
        return utc.dt.cast_time_unit("us")
    if kind in (pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    raise PlatformError(f"{path}: column {column.name} is {kind}, which no contract has; leave it out")


def _column(column: pl.Series) -> SampleColumn:
    known = column.drop_nulls()
    if column.dtype.is_float():
        known = known.filter(known.is_finite())
    number = column.dtype.is_numeric() and len(known) > 0
    few = column.dtype == pl.String and known.n_unique() <= min(_MOST_CATEGORIES, len(known) // 2)
    return SampleColumn(
        column.name,
        column.dtype,
        nullable=column.null_count() > 0,
        unique=column.null_count() == 0 and column.n_unique() == len(column),
        low=known.min() if number else None,
        high=known.max() if number else None,
        categories=tuple(sorted(known.unique())) if few else (),
    )
