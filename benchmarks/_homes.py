"""Homes that benchmarks build from the shell: days landed, refreshed, and what that cost."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from benchmarks._report import HANDBOOK, Cost, platform_command, run

FIRST = date(2018, 4, 1)


@dataclass(frozen=True)
class Refreshed:
    """What a refresh cost and what it says that it did."""

    cost: Cost
    done: dict[str, Any]

    @property
    def computed(self) -> dict[str, int]:
        """How many partitions of each asset were computed."""
        return {name: len(keys) for name, keys in self.done["computed"].items() if keys}

    @property
    def partitions(self) -> int:
        """How many partitions were computed."""
        return sum(self.computed.values())


def land(home: Path, through: date) -> str:
    """Land the days from FIRST on in a home; what they are: the handbook's, where it has so many."""
    if HANDBOOK.is_dir() and (HANDBOOK / f"{through}.parquet").exists():
        words, source = ["import-handbook", str(HANDBOOK), "--through", str(through)], "the handbook's data"
    else:
        days = (through - FIRST + timedelta(days=1)).days
        words, source = ["simulate", "--days", str(days), "--start", str(FIRST)], "simulated data"
    run(platform_command(*words), {"MY_PLATFORM_HOME": str(home)})
    return source


def refresh(
    home: Path, selection: str, *words: str, environment: Mapping[str, str] | None = None
) -> Refreshed:
    """Bring the selected assets of a home up to date; raises RuntimeError where a partition failed."""
    of_home = {"MY_PLATFORM_HOME": str(home), **(environment or {})}
    run(platform_command("prepare"), of_home)
    cost = run(platform_command("refresh", "--json", "--select", selection, *words), of_home)
    done = json.loads(cost.output[cost.output.index("{") :])
    if done["failed"]:
        raise RuntimeError(f"the refresh failed: {done['failed']}")
    return Refreshed(cost, done)
