"""Simulated days of any size: those of a small population, copied with identifiers of their own.

A population of millions cannot be simulated as it is, for each of its cards keeps a list of the terminals that it can
reach. A copy has the times, amounts and frauds of the first one, and its own cards, terminals and transactions.
"""

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from my_platform.domains.fraud.landing_files import (
    customers_path,
    extend_calendar,
    reports_path,
    terminals_path,
    transactions_path,
    write_table,
)
from my_platform.domains.fraud.simulator import SimulatorConfig, land_simulation

FIRST = date(2018, 4, 1)
# Transactions of a card and day, as simulated.
_A_DAY = 1.92


def land_replicated(landing: Path, *, rows: int, days: int, copies: int, work: Path) -> int:
    """Land so many days with about so many transactions in all; the transactions that have landed.

    Args:
        copies: of the population that is simulated.
        work: a folder for what is simulated.
    """
    customers = max(1, round(rows / days / copies / _A_DAY))
    config = SimulatorConfig(customers=customers, terminals=2 * customers)
    land_simulation(work, first=FIRST, days=days, config=config, closed=True)
    shifts = {"CUSTOMER_ID": customers, "TERMINAL_ID": 2 * customers}
    for path, key in ((customers_path, "CUSTOMER_ID"), (terminals_path, "TERMINAL_ID")):
        write_table(_copied(pl.read_parquet(path(work)), copies, _shifted({key: shifts[key]})), path(landing))
    landed = 0
    for day in (FIRST + timedelta(days=number) for number in range(days)):
        table = pl.read_parquet(transactions_path(work, day))
        copied = _copied(table, copies, {**_shifted(shifts), **_interleaved(copies)})
        write_table(copied.sort("TX_DATETIME", "TRANSACTION_ID"), transactions_path(landing, day))
        landed += copied.height
        if reports_path(work, day).exists():
            reports = _copied(pl.read_parquet(reports_path(work, day)), copies, _interleaved(copies))
            write_table(reports.sort("REPORTED_AT", "TRANSACTION_ID"), reports_path(landing, day))
    extend_calendar(landing, FIRST, FIRST + timedelta(days=days - 1))
    return landed


_Identifiers = Mapping[str, Callable[[int], pl.Expr]]


def _shifted(by: Mapping[str, int]) -> _Identifiers:
    """Identifiers that count on from those of the copy before."""
    return {name: lambda copy, name=name, size=size: pl.col(name) + copy * size for name, size in by.items()}  # type: ignore[misc]


def _interleaved(copies: int) -> _Identifiers:
    """Identifiers that rise from day to day over all copies."""
    return {"TRANSACTION_ID": lambda copy: pl.col("TRANSACTION_ID") * copies + copy}


def _copied(table: pl.DataFrame, copies: int, identifiers: _Identifiers) -> pl.DataFrame:
    return pl.concat(
        table.with_columns(**{name: of(copy) for name, of in identifiers.items()}) for copy in range(copies)
    )
