"""A healthy home, and copies of it in which one thing at a time goes wrong."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl

from assets_tests.homes import Versions, small
from my_platform.domains.fraud.simulator import SimulatorConfig, land_simulation
from my_platform.operations.session import Session, opened

# A Wednesday; clocks are put forward within the 42 days in America (9 March) and in Europe (30 March).
FIRST = date(2025, 2, 26)
DAYS = 42
DAY = (FIRST + timedelta(days=DAYS - 2)).isoformat()
DAY_BEFORE = (FIRST + timedelta(days=DAYS - 3)).isoformat()
DAY_WITHOUT_AN_HOUR = "2025-03-30"


@dataclass
class Scene:
    """A home of a fault's own.

    Attributes:
        before: data version by partition by asset, when all was well.
        day: the day that is delivered again.
    """

    home: Path
    before: Versions
    day: str = DAY
    planted: list[tuple[Any, str, Any]] = field(default_factory=list)

    @property
    def landing(self) -> Path:
        return self.home / "landing"

    @property
    def transactions(self) -> Path:
        return self.table("transactions")

    def table(self, name: str, day: str = "") -> Path:
        return self.landing / name / f"{day or self.day}.parquet"

    def deliver(self, change: Callable[[pl.DataFrame], pl.DataFrame], path: Path | None = None) -> None:
        """Land a file again, changed; renamed into place, as a good source does."""
        path = path or self.transactions
        staged = path.with_name(f".{path.name}.staged")
        change(pl.read_parquet(path)).write_parquet(staged)
        staged.replace(path)

    def plant(self, where: Any, name: str, value: Any) -> None:
        """Put a mistake in the place of a module's function, for as long as a session is open."""
        self.planted.append((where, name, value))

    @contextmanager
    def session(self, **settings: object) -> Iterator[Session]:
        with ExitStack() as planted:
            for where, name, value in self.planted:
                planted.enter_context(mock.patch.object(where, name, value))
            yield planted.enter_context(opened(small(self.home, **{"quiet_s": 0, **settings})))


def prepare(home: Path) -> Versions:
    """Build the healthy home, models and reports included; its versions."""
    config = SimulatorConfig(customers=150, terminals=300)
    land_simulation(home / "landing", first=FIRST, days=DAYS, config=config, closed=True)
    with opened(small(home)) as session:
        report = session.refresh()
        assert report.problems == [], report.problems
        return session.versions()


@contextmanager
def scene(healthy: Path, before: Versions, folder: Path) -> Iterator[Scene]:
    """A copy of the healthy home that is gone afterwards."""
    home = folder / "home"
    shutil.copytree(healthy, home, symlinks=True)
    try:
        yield Scene(home, before)
    finally:
        shutil.rmtree(home, ignore_errors=True)
