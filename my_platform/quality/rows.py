"""The split of a partition's rows into those that keep the contract and those that go to quarantine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandera.polars as pa
import polars as pl

from my_platform.errors import Refused
from my_platform.incremental.content import data_version
from my_platform.quality.contracts import NULL, OUTSIDE, REPEATED, ROW, UNIQUE, UNKNOWN, Contract

FAULT_COLUMNS = ("rule", "reason", "column", "value", "releasable", "file", "contract_version", ROW)
# What a reader of a valid partition may count on whatever a person decides: no nulls where there are to be
# none, rows of the day alone, each once.
NEVER_RELEASED = (REPEATED, OUTSIDE, NULL)
_FAULTS = pl.Schema({ROW: pl.UInt32(), "rule": pl.String(), "column": pl.String(), "value": pl.String()})


@dataclass(frozen=True)
class Split:
    """Rows that keep a contract, and the others with row number, rule, reason, column and value.

    ``released`` counts the rows that a person decided to let in; ``faults`` are those of all bad rows, by row number,
    rule, column and value.
    """

    valid: pl.DataFrame
    quarantined: pl.DataFrame
    released: int = 0
    faults: pl.DataFrame = field(default_factory=lambda: _FAULTS.to_frame())


@dataclass(frozen=True)
class Context:
    """What else than its own rows decides on a partition.

    Attributes:
        unknown: by column, the values that are no key of the table which the column refers to.
        released: the digests of rows that a person decided to let in; see ``row_digests``.
    """

    unknown: Mapping[str, pl.Series] = field(default_factory=dict)
    released: frozenset[str] = frozenset()


def split_rows(
    table: pl.DataFrame, contract: Contract, partition: str, context: Context | None = None
) -> Split:
    """Divide the rows of a partition; every row is on one side, none on both.

    Raises:
        Refused: the partition cannot be taken as a whole: there are too few rows, too many of them are bad,
            or the released ones contradict others. It carries the bad rows.
    """
    check_height(table.height, contract)
    split = divided(table, contract, partition, context)
    check_shares(table.height, split.quarantined, split.faults, contract)
    return split


def divided(table: pl.DataFrame, contract: Contract, partition: str, context: Context | None = None) -> Split:
    """The same, whatever the number of rows and the share of bad ones."""
    context = context or Context()
    numbered = table.with_row_index(ROW)
    faults = pl.concat(
        [
            _repeated_rows(numbered),
            _outside_day(numbered, contract, partition),
            *(_unknown_keys(numbered, column, values) for column, values in context.unknown.items()),
            _broken_rules(table, numbered, contract),
        ]
    ).unique(maintain_order=True)
    bad = faulty_rows(numbered, faults)
    let_in = _released(bad, table.columns, context.released)
    quarantined = bad.filter(~pl.col(ROW).is_in(let_in.implode()))
    valid = numbered.filter(~pl.col(ROW).is_in(quarantined[ROW].implode()))
    _check_released(valid, let_in, contract)
    valid = valid.drop(ROW).sort(contract.sort_by, maintain_order=True)
    if valid.height + quarantined.height != table.height:
        raise AssertionError(
            f"{table.height} rows became {valid.height} valid and {quarantined.height} bad ones"
        )
    return Split(valid, quarantined, len(let_in), faults)


def check_height(rows: int, contract: Contract) -> None:
    """Raise Refused where a partition has fewer rows than are expected."""
    if rows < contract.at_least_rows:
        raise Refused(
            f"{rows} rows, where at least {contract.at_least_rows} are expected; deliver the file again"
        )


def faulty_rows(numbered: pl.DataFrame, faults: pl.DataFrame) -> pl.DataFrame:
    """The rows with faults, each once: the first fault, all of them in ``reason``, whether it may be let in.

    Landed columns that are named as one of those that are added get ``_landed`` after their name.
    """
    by_row = faults.group_by(ROW, maintain_order=True).agg(
        pl.col("rule").first(),
        pl.format("{} in {}: {}", "rule", "column", "value").str.join("; ").alias("reason"),
        pl.col("column", "value").first(),
        (~pl.col("rule").is_in(NEVER_RELEASED)).all().alias("releasable"),
    )
    clashes = {name: f"{name}_landed" for name in numbered.columns[1:] if name in FAULT_COLUMNS}
    return numbered.rename(clashes).join(by_row, on=ROW, how="inner").sort(ROW)


def row_digests(rows: pl.DataFrame, columns: Sequence[str]) -> list[str]:
    """What each row of a quarantine says: the data version of the row by itself, as it landed."""
    landed = {f"{name}_landed" if name in FAULT_COLUMNS else name: name for name in columns}
    table = rows.select(list(landed)).rename(landed)
    return [data_version(table[number : number + 1]) for number in range(table.height)]


def _released(bad: pl.DataFrame, columns: Sequence[str], released: frozenset[str]) -> pl.Series:
    """The numbers of the bad rows that are let in."""
    if not released or bad.is_empty():
        return bad[ROW].clear()
    chosen = pl.Series([digest in released for digest in row_digests(bad, columns)], dtype=pl.Boolean)
    return bad.filter(chosen & bad["releasable"])[ROW]


def _check_released(valid: pl.DataFrame, let_in: pl.Series, contract: Contract) -> None:
    """Raise Refused where a released row has the key of another row that is valid."""
    if let_in.is_empty():
        return
    columns = contract.model.to_schema().columns
    keys = [(name,) for name, column in columns.items() if column.unique] + [contract.sort_by]
    for key in keys:
        twice = valid.filter(pl.struct(key).is_duplicated())
        if twice.height:
            first = twice.sort(*key, ROW).head(2)
            raise Refused(
                f"row {first[ROW][0]} and row {first[ROW][1]} have the same {', '.join(key)} "
                f"({', '.join(str(v) for v in first.select(key).row(0))}), and a row that was released is one of "
                "them; take one release back with `my-platform release … --undo`"
            )


def check_shares(rows: int, quarantined: pl.DataFrame, faults: pl.DataFrame, contract: Contract) -> None:
    """Raise Refused where more rows are bad than the contract bears, in all or by one rule."""
    left = faults.filter(pl.col(ROW).is_in(quarantined[ROW].implode()))
    limits = [("", contract.most_bad_share, quarantined[ROW])]
    for rule, share in contract.most_bad_share_by_rule.items():
        name = pl.col("rule") if rule in left["rule"] else pl.format("{}.{}", "column", "rule")
        limits.append((rule, share, left.filter(name == rule)[ROW].unique(maintain_order=True)))
    for rule, share, bad in limits:
        if len(bad) <= share * rows:
            continue
        example = quarantined.row(by_predicate=pl.col(ROW) == bad[0], named=True)
        counts = quarantined.group_by("rule").len().sort("rule")
        rules = ", ".join(f"{name} ({n})" for name, n in counts.iter_rows())
        what = f"break the rule {rule}" if rule else "break the contract"
        raise Refused(
            f"{len(bad)} of {rows} rows {what}, more than {share:.0%}: {rules}; for example row {example[ROW]}: "
            f"{example['reason']}. Deliver a corrected file",
            rows=quarantined,
        )


def _repeated_rows(numbered: pl.DataFrame) -> pl.DataFrame:
    """Rows that say the same as one before them."""
    again = numbered.select(~pl.struct(pl.exclude(ROW)).is_first_distinct()).to_series()
    return _faults(numbered.filter(again), REPEATED, numbered.columns[1], pl.lit("same as a row before"))


def _outside_day(numbered: pl.DataFrame, contract: Contract, partition: str) -> pl.DataFrame:
    if contract.time is None:
        return _FAULTS.to_frame()
    day = pl.lit(partition).str.to_date("%Y-%m-%d")
    outside = numbered.filter(pl.col(contract.time).dt.date() != day)
    times = pl.Series([str(time) for time in outside[contract.time]], dtype=pl.String)
    return _faults(outside, OUTSIDE, contract.time, pl.lit(times))


def _unknown_keys(numbered: pl.DataFrame, column: str, unknown: pl.Series) -> pl.DataFrame:
    found = numbered.filter(pl.col(column).is_in(unknown.implode()))
    return _faults(found, UNKNOWN, column, pl.col(column))


def _faults(rows: pl.DataFrame, rule: str, column: str, value: pl.Expr) -> pl.DataFrame:
    return rows.select(
        ROW, rule=pl.lit(rule), column=pl.lit(column), value=value.cast(pl.String).fill_null("None")
    )


def _broken_rules(table: pl.DataFrame, numbered: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    try:
        contract.model.validate(table, lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases
        for case in cases.filter(pl.col("index").is_null()).iter_rows(named=True):
            raise Refused(
                f"column {case['column']}: {case['check']} does not hold, found {case['failure_case']}; "
                "deliver the file again, or change the contract"
            ) from None
        found = cases.select(
            pl.col("index").cast(pl.UInt32).alias(ROW),
            pl.col("check").alias("rule"),
            "column",
            pl.col("failure_case").cast(pl.String).fill_null("None").alias("value"),
            across=pl.col("schema_context") == "DataFrameSchema",
        )
        alone = found.filter(~pl.col("across")).drop("across")
        unique = alone["rule"] == UNIQUE
        return pl.concat(
            [
                alone.filter(~unique),
                *_contradictions(numbered, alone.filter(unique)["column"].unique(maintain_order=True)),
                *_across(numbered, found.filter("across"), contract),
            ]
        )
    return _FAULTS.to_frame()


def _contradictions(numbered: pl.DataFrame, columns: pl.Series) -> list[pl.DataFrame]:
    """Rows with a value that another row has too; of rows that say the same, the first counts."""
    distinct = numbered.filter(pl.struct(pl.exclude(ROW)).is_first_distinct())
    return [
        _faults(distinct.filter(pl.col(column).is_duplicated()), UNIQUE, column, pl.col(column))
        for column in columns
    ]


def _across(numbered: pl.DataFrame, found: pl.DataFrame, contract: Contract) -> list[pl.DataFrame]:
    """The faults of rules over several columns: those columns' names, and their values as JSON."""
    columns = {rule.name: rule.columns for rule in contract.rules}
    return [
        _faults(
            numbered.join(cases.select(ROW), on=ROW, how="semi"),
            rule,
            ", ".join(columns[rule]),
            pl.struct(columns[rule]).struct.json_encode(),
        )
        for (rule,), cases in found.group_by("rule", maintain_order=True)
    ]
