"""Analysts open a database of their own process and find what is current, while the platform works on."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from assets_tests.homes import folder_in_memory
from assets_tests.operations import checked_shop, shop
from assets_tests.operations.dagster_shop import Shop, day
from my_platform.operations.session import opened

DAYS = 4


@pytest.fixture
def home() -> Iterator[Shop]:
    with folder_in_memory() as folder:
        shop.land_days(folder / "home", DAYS)
        with opened(checked_shop.settings(folder / "home")) as session:
            session.refresh()
            yield Shop(session)


def database(home: Shop) -> Path:
    return home.session.settings.analysts_database


def cents(home: Shop) -> dict[str, int]:
    """What an analyst's process reads."""
    script = (
        "import duckdb, sys\n"
        "with duckdb.connect(sys.argv[1], read_only=True) as connection:\n"
        "    for row in connection.execute('select partition_day, CENTS from marts.takings').fetchall(): print(*row)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(database(home))], capture_output=True, text=True, check=True
    )
    rows = (line.split() for line in done.stdout.splitlines())
    return {key: int(value) for key, value in rows}


def expected(**changed: int) -> dict[str, int]:
    return {day(number): 1000 + 16 * number + changed.get(f"day_{number}", 0) for number in range(DAYS)}


def test_after_a_refresh_an_analyst_reads_every_day(home: Shop) -> None:
    assert cents(home) == expected()


def test_a_refresh_that_changes_nothing_leaves_the_file_alone(home: Shop) -> None:
    before = database(home).stat()
    home.session.refresh()
    assert database(home).stat() == before


def test_a_correction_is_there_after_the_refresh(home: Shop) -> None:
    shop.land(home.home, shop.FIRST + timedelta(days=2), extra_cents=5)
    home.session.refresh()
    assert cents(home) == expected(day_2=5)


def test_a_correction_is_there_after_a_run_in_dagster(home: Shop) -> None:
    shop.land(home.home, shop.FIRST, extra_cents=7)
    assert home.run(["raw/orders", "validated/orders", "takings"], day(0)).success
    assert cents(home) == expected(day_0=7)


def test_a_refused_day_stays_as_it_was(home: Shop) -> None:
    shop.land(home.home, shop.FIRST, extra_cents=1_000_000)
    assert home.session.refresh().outcome.failed["takings"]
    assert cents(home) == expected()


def test_a_day_that_lost_its_file_is_gone(home: Shop) -> None:
    (home.home / "landing" / "orders" / f"{day(3)}.csv").unlink()
    home.session.refresh()
    assert day(3) not in cents(home)


def test_a_database_that_was_deleted_is_made_again(home: Shop) -> None:
    database(home).unlink()
    home.session.refresh()
    assert cents(home) == expected()
