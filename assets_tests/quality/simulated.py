"""Days of the simulated fraud tables in memory, judged as the platform judges them, without a home."""

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from my_platform.domains.fraud.contracts import WATCH_FRAUD_REPORTS, WATCH_TRANSACTIONS
from my_platform.domains.fraud.simulator import SimulatorConfig, land_simulation
from my_platform.incremental.declare import ordinal
from my_platform.quality.checks import HISTORY_DAYS, KEY_DAYS, as_table, results_of
from my_platform.quality.profiles import profile_of, read_profile
from my_platform.quality.watch import Watch

FIRST = date(2025, 1, 1)
WATCHED = {"transactions": WATCH_TRANSACTIONS, "fraud_reports": WATCH_FRAUD_REPORTS}

Tables = dict[str, pl.DataFrame]
Edit = Callable[[pl.DataFrame], pl.DataFrame]


def day(number: int) -> str:
    """The key of a day, counted from the first one."""
    return (FIRST + timedelta(days=number)).isoformat()


@cache
def simulated(
    days: int, customers: int = 300, seed: int = 0, drift_from: int | None = None
) -> Mapping[str, Tables]:
    """Tables by day by name."""
    drift = None if drift_from is None else FIRST + timedelta(days=drift_from)
    config = SimulatorConfig(customers=customers, terminals=2 * customers, seed=seed, drift_from=drift)
    with TemporaryDirectory() as folder:
        land_simulation(Path(folder), first=FIRST, days=days, config=config, closed=True)
        return {
            name: {
                file.stem: pl.read_parquet(file) for file in sorted((Path(folder) / name).glob("*.parquet"))
            }
            for name in WATCHED
        }


def judged(tables: Tables, watch: Watch, only: int | None = None) -> pl.DataFrame:
    """The rows of all checks, with the column ``day``; of one day only where it is given by its number."""
    wanted = list(tables) if only is None else [day(only)]
    needed = set(wanted) if only is None else {*wanted, *_days_before(day(only), HISTORY_DAYS)}
    profiles = {
        key: read_profile(profile_of(table, ordinal(key))) for key, table in tables.items() if key in needed
    }
    found = []
    for key in wanted:
        before = {other: profiles[other] for other in _days_before(key, HISTORY_DAYS) if other in profiles}
        keys = {
            other: tables[other].select(watch.keys)
            for other in [*_days_before(key, KEY_DAYS - 1), key]
            if watch.keys and other in tables
        }
        results = as_table(results_of(key, profiles[key], before, keys, watch))
        found.append(results.with_columns(day=pl.lit(key)))
    return pl.concat(found)


def _days_before(key: str, number: int) -> list[str]:
    return [(date.fromisoformat(key) - timedelta(days=n)).isoformat() for n in range(number, 0, -1)]


def failed(results: pl.DataFrame) -> set[tuple[str, str]]:
    """Check and column of what failed."""
    return set(results.filter(~pl.col("passed")).select("check", "column").iter_rows())


def with_fault(table: str, number: int, edit: Edit, days: int = 60) -> pl.DataFrame:
    """The checks of a day whose rows were edited, behind clean days."""
    tables = dict(simulated(days)[table])
    tables[day(number)] = edit(tables[day(number)])
    return judged(tables, WATCHED[table], only=number)
