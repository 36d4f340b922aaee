"""Fourteen weeks of a platform that nobody looks after: what lands on each day, as the world would have it.

The clock is that of landing: a day has come when its files lie there. Every happening ends with a home that owes
nothing, and is held against a refresh of a second home that sees the same landing, with the decisions to retrain that
lie there, and has no daemon.
"""

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from assets_tests.homes import FIRST, session
from my_platform.domains.fraud.landing_files import reports_path, transactions_path
from my_platform.domains.fraud.simulator import (
    SimulatorConfig,
    append_days,
    land_correction,
    land_late_labels,
    land_simulation,
)
from my_platform.operations.session import Session

BEFORE = 49
"""Days that have landed when the daemon starts: enough for weeks that are trained, tested and judged."""
DAYS, DRIFT = 98, BEFORE + 20
POPULATION = SimulatorConfig(customers=300, terminals=600, seed=5)
POLICY = "labelled_weeks=3,decay=0.05,cool_down_days=7"
SETTINGS: dict[str, object] = {
    "boosting_rounds": 30,
    "training_window_days": 14,
    "promote": "gate",
    "retraining": POLICY,
}


@dataclass(frozen=True)
class Happening:
    """What lands at one moment."""

    name: str
    happens: Callable[[Path], object]


def begin(landing: Path) -> None:
    """The days before the month."""
    land_simulation(landing, first=FIRST, days=BEFORE, config=POPULATION, closed=True)


def land(happening: Happening, staged: Path, landing: Path) -> None:
    """Let something happen to a copy of the landing, and then all of it at once to the landing itself.

    Who looks in between would see half of it, and may rightly decide by that.
    """
    before = _files(staged)
    happening.happens(staged)
    after = _files(staged)
    ready = []
    for path in sorted(path for path, about in after.items() if before.get(path) != about):
        place = landing / path
        place.parent.mkdir(parents=True, exist_ok=True)
        ready.append((Path(shutil.copyfile(staged / path, place.with_name(f".{place.name}"))), place))
    for hidden, place in ready:
        hidden.replace(place)
    for path in before.keys() - after.keys():
        (landing / path).unlink()


def _files(folder: Path) -> dict[Path, tuple[int, int]]:
    found = ((path.relative_to(folder), path.stat()) for path in folder.rglob("*") if path.is_file())
    return {path: (about.st_ino, about.st_mtime_ns) for path, about in found}


def day(number: int) -> str:
    return str(FIRST + timedelta(days=number))


def happenings(aside: Path) -> list[Happening]:
    """The month, in order. Files that are held back lie in the folder ``aside`` meanwhile."""

    def days(number: int, **more: object) -> Callable[[Path], object]:
        return lambda landing: append_days(landing, number, **more)  # type: ignore[arg-type]

    def file_of(number: int) -> Callable[[Path], Path]:
        return lambda landing: transactions_path(landing, FIRST + timedelta(days=number))

    def held_back(landing: Path) -> None:
        append_days(landing, 3)
        for path in (file_of(BEFORE + 7)(landing), reports_path(landing, FIRST + timedelta(days=BEFORE + 8))):
            path.replace(_place(aside, path))

    def comes_late(landing: Path) -> None:
        for path in (file_of(BEFORE + 7)(landing), reports_path(landing, FIRST + timedelta(days=BEFORE + 8))):
            _place(aside, path).replace(path)

    def lands_twice(landing: Path) -> None:
        append_days(landing, 1)
        path = file_of(BEFORE + 3)(landing)
        again = path.with_name(f".{path.name}")
        shutil.copyfile(path, again)
        again.replace(path)
        os.utime(path, ns=(time.time_ns(), time.time_ns()))

    def broken(landing: Path) -> None:
        append_days(landing, 2)
        path = file_of(BEFORE + 5)(landing)
        shutil.copyfile(path, _place(aside, path))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def repaired(landing: Path) -> None:
        path = file_of(BEFORE + 5)(landing)
        _place(aside, path).replace(path)

    def labels_trickle_in(landing: Path) -> None:
        append_days(landing, 4)
        for number in (BEFORE + 9, BEFORE + 11):
            land_late_labels(landing, FIRST + timedelta(days=number), 0.3)

    return [
        Happening("three days as they should be", days(3)),
        Happening("a day that lands twice", lands_twice),
        Happening("a file that is cut short", broken),
        Happening("the same file, whole", repaired),
        Happening("a day and labels that do not land", held_back),
        Happening("they land late", comes_late),
        Happening("labels that trickle in", labels_trickle_in),
        Happening(
            "a day that is corrected",
            lambda landing: land_correction(landing, FIRST + timedelta(days=BEFORE + 2)),
        ),
        Happening(
            "fraud changes",
            lambda landing: append_days(landing, 15, drift_from=FIRST + timedelta(days=DRIFT)),
        ),
        Happening("two weeks after", days(14)),
        Happening("labels of these", days(14)),
        *(Happening(f"weeks that are judged by what is known now, {n}", days(14)) for n in (1, 2, 3)),
    ]


def _place(aside: Path, path: Path) -> Path:
    aside.mkdir(parents=True, exist_ok=True)
    return aside / f"{path.parent.name}-{path.name}"


@contextmanager
def refreshed(home: Path, landing: Path) -> Iterator[Session]:
    """A home that sees the same landing, after a refresh of it."""
    with session(home, landing_url=str(landing), **SETTINGS) as opened:
        opened.refresh()
        yield opened


def moments(seed: int, kills: int, of: list[Happening]) -> dict[str, list[float]]:
    """Seconds after which the daemon is killed, by the happening in which that is."""
    chance = random.Random(seed)
    found: dict[str, list[float]] = {each.name: [] for each in of}
    for number in range(kills):
        found[of[number % len(of)].name].append(chance.uniform(1, 25))
    return found
