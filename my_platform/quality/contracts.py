"""Contracts: what a table promises, as a pandera model, and the split of its rows into good and bad.

A pandera model says the columns, their types and the rules for rows. What it cannot say of a partition
stands beside it in a ``Contract``: how rows are sorted, which column holds the event time, how few rows
and how large a share of bad rows a partition may have.
"""

import os
from dataclasses import dataclass

os.environ.setdefault("PANDERA_VALIDATION_DEPTH", "SCHEMA_AND_DATA")

import pandera.polars as pa
import polars as pl

from my_platform.errors import Refused
from my_platform.incremental.declare import Column

ROW = "row_number"


@dataclass(frozen=True)
class Contract:
    """The promise of one table.

    Attributes:
        model: columns, types and rules for rows; its docstring describes the table.
        sort_by: the columns that fix the order of rows; their values are unique in a partition.
        time: the column with the event time (UTC, without zone); its day is the partition's.
        at_least_rows: fewer rows than this and the partition is refused.
        most_bad_share: a larger share of bad rows than this and the partition is refused.
    """

    model: type[pa.DataFrameModel]
    sort_by: tuple[str, ...]
    time: str | None = None
    at_least_rows: int = 1
    most_bad_share: float = 0.1

    @property
    def schema(self) -> pl.Schema:
        """Column types in the order of the model."""
        columns = self.model.to_schema().columns
        return pl.Schema({name: column.dtype.type for name, column in columns.items()})

    @property
    def catalogue(self) -> dict[str, Column]:
        """Column types and descriptions."""
        columns = self.model.to_schema().columns
        return {name: Column(column.dtype.type, column.description or "") for name, column in columns.items()}


@dataclass(frozen=True)
class Split:
    """Rows that keep a contract, and the others with rule, reason and row number."""

    valid: pl.DataFrame
    quarantined: pl.DataFrame


def split_rows(table: pl.DataFrame, contract: Contract, partition: str) -> Split:
    """Divide the rows of a partition; every row is on one side, none on both.

    Raises:
        Refused: the partition cannot be taken as a whole: a column is missing, unknown or of another type,
            there are too few rows, or too many of them are bad.
    """
    if table.height < contract.at_least_rows:
        raise Refused(
            f"{table.height} rows, where at least {contract.at_least_rows} are expected; deliver the file again"
        )
    numbered = table.with_row_index(ROW)
    faults = [
        *_repeated_rows(table),
        *_outside_day(table, contract, partition),
        *_broken_rules(table, contract),
    ]
    bad = pl.DataFrame(
        faults,
        schema={ROW: pl.UInt32, "rule": pl.String, "column": pl.String, "value": pl.String},
        orient="row",
    )
    by_row = (
        bad.unique(maintain_order=True)
        .group_by(ROW, maintain_order=True)
        .agg(
            pl.col("rule").first(),
            pl.format("{} in {}: {}", "rule", "column", "value").str.join("; ").alias("reason"),
        )
    )
    quarantined = numbered.join(by_row, on=ROW, how="inner").sort(ROW)
    valid = numbered.join(by_row, on=ROW, how="anti").drop(ROW).sort(contract.sort_by, maintain_order=True)
    if valid.height + quarantined.height != table.height:
        raise AssertionError(
            f"{table.height} rows became {valid.height} valid and {quarantined.height} bad ones"
        )
    if table.height and quarantined.height > contract.most_bad_share * table.height:
        example = quarantined.row(0, named=True)
        rules = ", ".join(
            f"{rule} ({n})" for rule, n in quarantined.group_by("rule").len().sort("rule").iter_rows()
        )
        raise Refused(
            f"{quarantined.height} of {table.height} rows break the contract, more than {contract.most_bad_share:.0%}: "
            f"{rules}; for example row {example[ROW]}: {example['reason']}. Deliver a corrected file"
        )
    return Split(valid, quarantined)


def check_columns(found: pl.Schema, contract: Contract, file: str) -> None:
    """Raise Refused, naming file and column, unless a file has the contract's columns and types."""
    expected = contract.schema
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    problems = []
    if missing:
        problems.append(f"column {', '.join(missing)} is missing")
    if extra:
        problems.append(f"column {', '.join(extra)} is not in the contract")
    problems += [
        f"column {name} is {found[name]}, expected {expected[name]}"
        for name in expected
        if name in found and not _same_type(found[name], expected[name])
    ]
    if problems:
        raise Refused(
            f"{file}: {'; '.join(problems)}. Expected are the columns {', '.join(expected)}: deliver the file again, "
            "or change the contract"
        )


def _same_type(found: pl.DataType, expected: pl.DataType) -> bool:
    if isinstance(found, pl.Datetime) and isinstance(expected, pl.Datetime):
        return found.time_zone in (None, "UTC")
    return found == expected


def _repeated_rows(table: pl.DataFrame) -> list[tuple[int, str, str, str]]:
    """Rows that say the same as one before them."""
    again = table.select(~pl.struct(pl.all()).is_first_distinct()).to_series()
    return [
        (int(row), "repeated_row", table.columns[0], "same as a row before")
        for row in again.arg_true().to_list()
    ]


def _outside_day(table: pl.DataFrame, contract: Contract, partition: str) -> list[tuple[int, str, str, str]]:
    if contract.time is None:
        return []
    outside = table.with_row_index(ROW).filter(
        pl.col(contract.time).dt.date() != pl.lit(partition).str.to_date("%Y-%m-%d")
    )
    return [
        (row, "outside_day", contract.time, str(value))
        for row, value in outside.select(ROW, contract.time).iter_rows()
    ]


def _broken_rules(table: pl.DataFrame, contract: Contract) -> list[tuple[int, str, str, str]]:
    try:
        contract.model.validate(table, lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases
        for case in cases.filter(pl.col("index").is_null()).iter_rows(named=True):
            raise Refused(
                f"column {case['column']}: {case['check']} does not hold, found {case['failure_case']}; "
                "deliver the file again, or change the contract"
            ) from None
        # A repeated row is told by its own rule; the first of them stays.
        distinct = table.with_row_index(ROW).filter(
            table.select(pl.struct(pl.all()).is_first_distinct()).to_series()
        )
        conflicting = {
            column: set(distinct.filter(distinct[column].is_duplicated()).get_column(ROW).to_list())
            for column in cases.filter(pl.col("check") == "field_uniqueness").get_column("column").unique()
        }
        return [
            (case["index"], case["check"], str(case["column"]), str(case["failure_case"]))
            for case in cases.iter_rows(named=True)
            if case["check"] != "field_uniqueness" or case["index"] in conflicting[case["column"]]
        ]
    return []
