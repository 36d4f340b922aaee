"""Whole platforms for tests: simulated landings, homes in memory, refreshes in this process or in their own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from assets_tests import conservation
from my_platform.domains.fraud.simulator import SimulatorConfig, land_simulation
from my_platform.operations.session import Session, opened
from my_platform.settings import Settings

CHECKOUT = Path(__file__).resolve().parent.parent
COMMAND = Path(sys.executable).with_name("my-platform")
# A Wednesday, on which weeks begin.
FIRST = date(2025, 1, 1)
_ROOM_BYTES = 4 << 30

Versions = dict[str, dict[str, str]]
"""Data version by partition by asset."""
Objects = dict[Path, tuple[int, int]]
"""Inode and time of change, in nanoseconds, by path below the lake."""


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """A folder that is gone afterwards; in memory where there is room, as SQLite waits for the disk."""
    memory = Path("/dev/shm")
    room = memory.is_dir() and shutil.disk_usage(memory).free > _ROOM_BYTES
    with tempfile.TemporaryDirectory(
        prefix="my_platform_", dir=memory if room else None, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)
        conservation.check()


def land(landing: Path, days: int, *, customers: int, terminals: int, scenarios: bool = False) -> None:
    """Land simulated days from FIRST on, as a closed data set."""
    config = SimulatorConfig(customers=customers, terminals=terminals)
    land_simulation(landing, first=FIRST, days=days, config=config, closed=True, scenarios=scenarios)


def day(number: int) -> str:
    """The key of a day, counted from FIRST."""
    return (FIRST + timedelta(days=number)).isoformat()


def days(first: int, last: int, step: int = 1) -> list[str]:
    """The keys of the days from one to another, both included."""
    return [day(number) for number in range(first, last + 1, step)]


def small(home: Path, **given: Any) -> Settings:
    """Settings under which a model is fitted in no time, and none is judged unless that is asked for."""
    return Settings(**{"home": home, "boosting_rounds": 10, "threads": 1, "promote": "never", **given})


@contextmanager
def session(home: Path, **given: Any) -> Iterator[Session]:
    with opened(small(home, **given)) as found:
        yield found


def copied_checkout(folder: Path) -> Path:
    """The code and the marts, so that a test may edit them and nobody else's edits come in between."""
    for name in ("my_platform", "dbt"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "logs"))
    shutil.copy(CHECKOUT / "dagster.yaml", folder / "dagster.yaml")
    return folder


def start(
    home: Path,
    *words: str,
    code: Path = CHECKOUT,
    before: Sequence[str] = (),
    command: Sequence[str] = (str(COMMAND),),
    **settings: object,
) -> subprocess.Popen[str]:
    """A my-platform command in a process group of its own; ``settings`` become MY_PLATFORM_… variables.

    ``before`` stand words such as those of taskset, which start it; ``command`` is what is started instead of it.
    """
    conservation.watch(home)
    ours = {f"MY_PLATFORM_{name.upper()}": str(value) for name, value in settings.items()}
    return subprocess.Popen(
        [*before, *command, "--home", str(home), *words],
        cwd=home.parent,
        env={
            **os.environ,
            "PYTHONPATH": str(code),
            "MY_PLATFORM_THREADS": "1",
            "MY_PLATFORM_PROMOTE": "never",
            **ours,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def answer(process: subprocess.Popen[str], *, code: int = 0, within_s: float = 600) -> Any:
    """The JSON object that a command printed, which ended with that exit code."""
    out, errors = process.communicate(timeout=within_s)
    assert process.returncode == code, errors
    return json.loads(out)


def call(home: Path, *words: str, **given: Any) -> Any:
    """The JSON answer of a command."""
    return answer(start(home, *words, "--json", **given))


def handbook_folder() -> Path:
    """The Handbook's daily files; skips the test where there are none."""
    default = CHECKOUT.parent / "shared" / "data" / "handbook" / "transactions"
    folder = Path(os.environ.get("MY_PLATFORM_HANDBOOK", default))
    if not folder.is_dir():
        pytest.skip(f"the Handbook's data is not at {folder}; set MY_PLATFORM_HANDBOOK to its folder")
    return folder


def objects(home: Path) -> Objects:
    """The stored values, by their path, which asset, partition and fingerprint decide."""
    lake = home / "lake"
    return {
        path.relative_to(lake): (about.st_ino, about.st_mtime_ns)
        for path in lake.rglob("*.parquet")
        if (about := path.stat())
    }
