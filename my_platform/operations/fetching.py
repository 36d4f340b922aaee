"""Fetching for a home: the sources that its domains declare, asked by hand or by a sensor."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg

from my_platform.errors import PlatformError
from my_platform.fetching.fetch import Fetched, fetch
from my_platform.operations.home import load_sources
from my_platform.operations.home_sensor import home_sensor
from my_platform.settings import Settings
from my_platform.storage.bucket import Patience
from my_platform.storage.objects import locked_if_free
from my_platform.storage.places import open_place

FETCH_SENSOR = "fetch_sources"
# Dagster gives up on a tick after a minute; what is left comes with the next one.
_LONGEST_TICK_S = 30.0


def fetch_sources(
    settings: Settings,
    tables: Sequence[str] = (),
    first: date | None = None,
    through: date | None = None,
    *,
    most_s: float | None = None,
) -> dict[str, Fetched]:
    """Fetch the owed days of all sources, or of some tables; what became of them, by table.

    Args:
        most_s: seconds after which no further day is begun; with it, nothing is fetched while another process does.

    Raises:
        PlatformError: a table is named that no source is declared for.
    """
    sources = {source.table: source for source in load_sources(settings)}
    unknown = sorted(set(tables) - sources.keys())
    if unknown:
        raise PlatformError(
            f"there is no source of {', '.join(unknown)}; there are {', '.join(sorted(sources)) or 'none'}"
        )
    until_s = time.monotonic() + (float("inf") if most_s is None else most_s)
    today = datetime.now(UTC).date()
    # Two at once would ask for the same days.
    with locked_if_free(settings.home / "fetch.lock", wait=most_s is None) as held:
        return (
            {}
            if not held
            else {
                name: fetch(
                    source,
                    open_place(settings.landing, Patience.of(settings)),
                    today=today,
                    first=first,
                    through=through,
                    until_s=until_s,
                )
                for name, source in sources.items()
                if not tables or name in tables
            }
        )


def fetch_sensor(
    sources: Callable[[], Mapping[str, Fetched]], *, dagster_home: Path | None, interval_s: int
) -> dg.SensorDefinition:
    """A sensor that fetches what the sources owe, and requests no run: what landed is noticed as any file is.

    Args:
        sources: fetches for a bounded time; what became of the days, by table.
        dagster_home: the only instance that is served; None for any.
    """

    def ask_sources(context: dg.SensorEvaluationContext) -> str:
        found = sources()
        failed = [done.failed for done in found.values() if done.failed]
        told = [
            f"{table} {day}: {rows:,} rows{again}"
            for table, done in found.items()
            for days, again in ((done.landed, ""), (done.corrected, ", corrected"))
            for day, rows in days.items()
        ]
        if failed:
            # The tick fails, so that it is seen; what had landed has landed.
            raise PlatformError("; ".join([*failed, *(f"landed {each}" for each in told)]))
        return f"landed {', '.join(told)}" if told else "no source has anything new"

    return home_sensor(
        FETCH_SENSOR,
        "Lands the finished days of the databases and HTTP APIs that the domains declare.",
        ask_sources,
        dagster_home=dagster_home,
        interval_s=interval_s,
    )


def fetch_for_a_tick(settings: Settings) -> dict[str, Fetched]:
    """Fetch as much as a tick has time for."""
    return fetch_sources(settings, most_s=_LONGEST_TICK_S)
