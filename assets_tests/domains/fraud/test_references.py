"""Transactions refer to cards and terminals: unknown ones are kept out, and heal when the profile lands."""

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assets_tests.homes import day, days, folder_in_memory, land, session
from my_platform.domains.fraud.landing_files import customers_path, terminals_path, transactions_path
from my_platform.operations.forecast import forecast

LAST = 3
SELECT = '+key:"validated/transactions"'
STRANGE = 10**6


@pytest.fixture(scope="module")
def checked() -> Iterator[Path]:
    """Four days, of which the second has three transactions at a terminal that nobody knows."""
    with folder_in_memory() as folder:
        landing = folder / "home" / "landing"
        land(landing, LAST + 1, customers=60, terminals=120)
        path = transactions_path(landing, date.fromisoformat(day(1)))
        number = pl.int_range(pl.len())
        terminal = pl.when(number < 3).then(STRANGE).otherwise("TERMINAL_ID")
        pl.read_parquet(path).with_columns(TERMINAL_ID=terminal).write_parquet(path)
        refreshed(folder / "home")
        yield folder / "home"


@pytest.fixture
def home(checked: Path) -> Iterator[Path]:
    with folder_in_memory() as folder:
        yield shutil.copytree(checked, folder / "home")


def refreshed(home: Path) -> dict[str, Any]:
    with session(home) as opened:
        report = opened.refresh(select=SELECT)
        assert report.problems == []
        return report.outcome.computed


def bad(home: Path) -> list[tuple[str, str, str]]:
    with session(home) as opened:
        found = opened.quarantined("validated/transactions", None).get("validated/transactions", {})
    return [(key, row["rule"], row["value"]) for key, rows in found.items() for row in rows]


def test_transactions_at_an_unknown_terminal_are_kept_out(checked: Path) -> None:
    assert bad(checked) == [(day(1), "unknown_key", str(STRANGE))] * 3


def test_a_terminal_that_becomes_known_heals_the_days_that_used_it(home: Path) -> None:
    path = terminals_path(home / "landing")
    table = pl.read_parquet(path)
    pl.concat([table, table.tail(1).with_columns(TERMINAL_ID=pl.lit(STRANGE, pl.Int64))]).write_parquet(path)
    computed = refreshed(home)
    assert computed["unknown_terminals"] == days(0, LAST)
    assert computed["validated/transactions"] == [day(1)]
    assert bad(home) == []


def test_a_new_customer_has_no_transaction_checked_again(home: Path) -> None:
    path = customers_path(home / "landing")
    table = pl.read_parquet(path)
    pl.concat([table, table.tail(1).with_columns(CUSTOMER_ID=pl.lit(STRANGE, pl.Int64))]).write_parquet(path)
    computed = refreshed(home)
    assert "validated/transactions" not in computed
    assert computed["unknown_customers"] == days(0, LAST)


def test_a_changed_profile_costs_nothing_below_its_keys(home: Path) -> None:
    path = customers_path(home / "landing")
    pl.read_parquet(path).with_columns(pl.col("X") + 1).write_parquet(path)
    assert sorted(refreshed(home)) == ["known_customers", "raw/customers", "validated/customers"]


def test_without_profiles_nothing_is_held_against_a_transaction(home: Path) -> None:
    customers_path(home / "landing").unlink()
    terminals_path(home / "landing").unlink()
    assert refreshed(home) == {"validated/transactions": days(0, LAST)}
    assert bad(home) == []
    with session(home) as opened:
        assert [
            name for name in forecast(opened.workspace, opened.heads).as_json()["waiting"] if "known" in name
        ] == []
