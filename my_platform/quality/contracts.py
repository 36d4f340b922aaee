"""Contracts: what a table promises, as a pandera model.

A pandera model says the columns, their types and the rules for rows. What it cannot say of a partition
stands beside it in a ``Contract``: how rows are sorted, which column holds the event time, how few rows
and how large a share of bad rows a partition may have, and what is done with files of other columns.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

os.environ.setdefault("PANDERA_VALIDATION_DEPTH", "SCHEMA_AND_DATA")

import pandera.polars as pa
import polars as pl

from my_platform.errors import PlatformError
from my_platform.incremental.code import code_version
from my_platform.incremental.declare import Column
from my_platform.quality.columns import Columns

ROW = "row_number"
REPEATED, OUTSIDE, UNKNOWN = "repeated_row", "outside_day", "unknown_key"
NULL, UNIQUE = "not_nullable", "field_uniqueness"


@dataclass(frozen=True)
class Rule:
    """A rule for rows: its name, as it stands in quarantine, and the columns that it reads."""

    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Contract:
    """The promise of one table.

    Attributes:
        model: columns, types and rules for rows; its docstring describes the table.
        sort_by: the columns that fix the order of rows; their values are unique in a partition.
        time: the column with the event time (UTC, without zone); its day is the partition's.
        at_least_rows: fewer rows than this and the partition is refused.
        most_bad_share: a larger share of bad rows than this and the partition is refused.
        usual_bad_share: a larger share of bad rows than this, and the partition is taken with a warning.
        most_bad_share_by_rule: like ``most_bad_share`` for single rules: by rule, or by ``COLUMN.rule``.
        extra_columns: whether a file with columns beyond the contract's is refused, or these are left out.
        renames: other names under which a column may land, to its own.
        casts: other types in which a column may land, each of which loses nothing.
        apart: a column by whose values a partition is taken apart where it does not fit into memory; whether a row keeps
            the contract must hang on no row with another value. None where a partition has to be looked at as a whole.
    """

    model: type[pa.DataFrameModel]
    sort_by: tuple[str, ...]
    time: str | None = None
    at_least_rows: int = 1
    most_bad_share: float = 0.1
    usual_bad_share: float = 0.01
    most_bad_share_by_rule: Mapping[str, float] = field(default_factory=dict)
    extra_columns: Literal["refuse", "ignore"] = "refuse"
    renames: Mapping[str, str] = field(default_factory=dict)
    casts: Mapping[str, tuple[pl.DataType, ...]] = field(default_factory=dict)
    apart: str | None = None

    def __post_init__(self) -> None:
        schema = self.model.to_schema()
        name = self.model.__name__
        coerced = [column for column, found in schema.columns.items() if found.coerce]
        if schema.coerce or coerced:
            raise PlatformError(
                f"{name} coerces {', '.join(coerced) or 'its columns'}, which changes values without a word; "
                "take `coerce` away, and say in `casts` which other types may land"
            )
        for column in (*self.sort_by, *([self.time] if self.time else [])):
            if column not in schema.columns:
                raise PlatformError(f"{name} has no column {column}; it has {', '.join(schema.columns)}")
            if schema.columns[column].nullable:
                raise PlatformError(
                    f"{name}: {column} may be null, so that rows have no order or no day; take `nullable` away"
                )
        unique = [column for column, found in schema.columns.items() if found.unique and column != self.apart]
        if self.apart is not None and (self.apart not in schema.columns or unique):
            raise PlatformError(
                f"{name} cannot be taken apart by {self.apart}: "
                + (
                    f"{unique[0]} is unique over all rows"
                    if unique
                    else f"it has {', '.join(schema.columns)}"
                )
            )
        known = {n for rule in self.rules for n in (rule.name, *(f"{c}.{rule.name}" for c in rule.columns))}
        unknown = [rule for rule in self.most_bad_share_by_rule if rule not in known]
        if unknown:
            raise PlatformError(
                f"{name} has no rule {', '.join(unknown)}; it has {', '.join(sorted(r.name for r in self.rules))}"
            )
        self.columns  # noqa: B018 – refuses renames and casts that cannot be

    @property
    def schema(self) -> pl.Schema:
        """Column types in the order of the model."""
        columns = self.model.to_schema().columns
        return pl.Schema({name: column.dtype.type for name, column in columns.items()})

    @cached_property
    def columns(self) -> Columns:
        """What landed files must have."""
        return Columns(dict(self.schema), self.extra_columns, self.renames, self.casts)

    @property
    def catalogue(self) -> dict[str, Column]:
        """Column types and descriptions."""
        columns = self.model.to_schema().columns
        return {name: Column(column.dtype.type, column.description or "") for name, column in columns.items()}

    @property
    def parameters(self) -> dict[str, Any]:
        """What counts of it in a fingerprint beside the model."""
        return {
            "sort_by": self.sort_by,
            "time": self.time,
            "at_least_rows": self.at_least_rows,
            "most_bad_share": self.most_bad_share,
            "usual_bad_share": self.usual_bad_share,
            "most_bad_share_by_rule": dict(self.most_bad_share_by_rule),
        }

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """All rules for rows, in the order in which they are told."""
        schema = self.model.to_schema()
        columns = schema.columns
        found = [Rule(REPEATED, tuple(columns)), Rule(UNKNOWN, tuple(columns))]
        if self.time is not None:
            found.insert(1, Rule(OUTSIDE, (self.time,)))
        for name, column in columns.items():
            found += [Rule(NULL, (name,))] if not column.nullable else []
            found += [Rule(UNIQUE, (name,))] if column.unique else []
            found += [Rule(rule_name(check), (name,)) for check in column.checks]
        empty = pl.DataFrame(schema=self.schema)
        return (*found, *(Rule(rule_name(check), _columns_read(check, empty)) for check in schema.checks))


def version_of(contract: Contract) -> str:
    """A digest of a contract: of its model's code and of all that stands beside it, 16 hexadecimal digits."""
    return code_version(contract.model, parameters={**contract.parameters, **contract.columns.parameters})


def rule_name(check: Any) -> str:
    """The name that pandera gives a check in its failure cases."""
    return str(check.error or check.name)


def _columns_read(check: Any, empty: pl.DataFrame) -> tuple[str, ...]:
    """The columns without which a rule over several of them cannot be evaluated; all where none is missed."""
    found = []
    for name in empty.columns:
        try:
            check(empty.drop(name).lazy()).check_passed.collect()
        except (pl.exceptions.ColumnNotFoundError, LookupError):
            found.append(name)
    return tuple(found) or tuple(empty.columns)
