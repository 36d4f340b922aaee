"""Validation of landed days one after the other, as a process of its own: seconds by what is done."""

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from my_platform.domains.fraud.contracts import TRANSACTIONS, WATCH_TRANSACTIONS, Transactions
from my_platform.incremental.declare import day_key, ordinal
from my_platform.quality.checks import HISTORY_DAYS, KEY_DAYS, results_of
from my_platform.quality.parsing import read_landed
from my_platform.quality.profiles import profile_of, read_profile
from my_platform.quality.tables import validate

_BY_PLATFORM = ("contracts and quarantine", "profiles", "checks")
PANDERA, FILTER = "pandera's own validate", "a bare polars filter"


def day_by_day(landing: str, days: int) -> dict[str, Any]:
    """Each day by the platform, then by pandera's own ``validate`` and by a bare filter; and which checks failed."""
    profiles: dict[str, Any] = {}
    keys: dict[str, pl.DataFrame] = {}
    seconds = dict.fromkeys([*_BY_PLATFORM, PANDERA, FILTER], 0.0)
    failed: list[str] = []
    rows = landed = 0
    for path in _files(landing, days):
        table = read_landed([(path.name, path.read_bytes())], TRANSACTIONS.columns).table
        key = path.stem
        started = time.perf_counter()
        made = validate(table, TRANSACTIONS, key)
        validated = time.perf_counter()
        profiles[key] = read_profile(profile_of(made.table, ordinal(key)))
        profiled = time.perf_counter()
        keys[key] = made.table.select(WATCH_TRANSACTIONS.keys)
        before = {day: profiles[day] for day in _before(key, HISTORY_DAYS) if day in profiles}
        recent = {day: keys[day] for day in [*_before(key, KEY_DAYS - 1), key] if day in keys}
        results = results_of(key, profiles[key], before, recent, WATCH_TRANSACTIONS)
        checked = time.perf_counter()
        Transactions.validate(table, lazy=True)
        by_pandera = time.perf_counter()
        _filtered(table)
        ended = time.perf_counter()
        failed += [f"{key}: {result.message}" for result in results if not result.passed]
        keys.pop(day_key(ordinal(key) - KEY_DAYS), None)
        marks = (started, validated, profiled, checked, by_pandera, ended)
        for name, (before_it, after_it) in zip(seconds, pairwise(marks), strict=True):
            seconds[name] += after_it - before_it
        assert made.quarantined is not None
        rows, landed = rows + made.table.height + made.quarantined.height, landed + table.height
    if rows != landed:
        raise AssertionError(f"{landed} rows landed, {rows} are valid or in quarantine")
    return {"rows": rows, "seconds": seconds, "failed": failed}


def _filtered(table: pl.DataFrame) -> pl.DataFrame:
    """The contract's rules for values as one polars filter, which tells no row, rule or reason."""
    amount = pl.col("TX_AMOUNT")
    return table.filter(
        pl.all_horizontal(pl.all().is_not_null())
        & pl.col("TRANSACTION_ID").is_unique()
        & (pl.col("CUSTOMER_ID") >= 0)
        & (pl.col("TERMINAL_ID") >= 0)
        & amount.is_finite()
        & amount.is_between(0, 1_000_000, closed="left")
    )


def _files(landing: str, days: int) -> list[Path]:
    return sorted((Path(landing) / "transactions").glob("*.parquet"))[:days]


def _before(key: str, number: int) -> list[str]:
    return [day_key(ordinal(key) - back) for back in range(number, 0, -1)]
