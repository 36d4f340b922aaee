"""A small home whose champion scored days that landed after its promotion."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from assets_tests import homes
from assets_tests.serving.service_log import serve
from my_platform.operations.home import land_logs
from my_platform.operations.promotion import promote
from my_platform.operations.refresh import Report
from my_platform.operations.session import Session

PROMOTED_AFTER, LAST = 20, 23
SERVED = homes.days(PROMOTED_AFTER + 1, LAST)


@dataclass(frozen=True)
class Served:
    """A home whose champion scored the last days, one transaction after the other."""

    home: Path
    session: Session
    landed: dict[str, Any]
    report: Report


@pytest.fixture(scope="session")
def before() -> Iterator[Path]:
    """A home with a champion, and days that landed after its promotion."""
    with homes.folder_in_memory() as folder:
        home = folder / "home"
        homes.land(home / "landing", PROMOTED_AFTER + 1, customers=60, terminals=120)
        with homes.session(home) as opened:
            assert opened.refresh().problems == []
            done = promote(
                opened.models, opened.models.named("fraud_lightgbm"), who="test", why="the first", forced=True
            )
            assert done.line is not None
        homes.land(home / "landing", LAST + 1, customers=60, terminals=120)
        with homes.session(home) as opened:
            assert opened.refresh().problems == []
        yield home


@contextmanager
def served_home(before: Path, **given: Any) -> Iterator[Served]:
    with homes.folder_in_memory() as folder:
        home = folder / "home"
        shutil.copytree(before, home)
        with homes.session(home) as opened:
            serve(opened, SERVED, **given)
            landed = land_logs(opened.settings)["scored_requests"].as_json()
            yield Served(home, opened, landed, opened.refresh())


@pytest.fixture(scope="session")
def served(before: Path) -> Iterator[Served]:
    with served_home(before) as found:
        yield found
