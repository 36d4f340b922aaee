"""Histories that show one law each, and runs that are not a refresh of everything."""

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets_tests.incremental import histories
from assets_tests.incremental.clean_build import Window
from assets_tests.incremental.generated import Derived, Source, text_of
from assets_tests.incremental.histories import DIAMOND, GATED, HISTORIES, day, flip_a_byte, land_days
from assets_tests.incremental.world import BROKEN, Log, Process, World
from my_platform.incremental.declare import Grain
from my_platform.operations.execution import Execution
from my_platform.operations.outcome import Request
from my_platform.storage.landing import Landing
from my_platform.storage.places import LandingFolder
from my_platform.storage.trace_index import TraceIndex

ANYWHERE = [name for name in HISTORIES if name.endswith("anywhere")]


@pytest.mark.parametrize("name", HISTORIES)
def test_every_refresh_of_the_history_keeps_the_laws(name: str, folder: Path) -> None:
    HISTORIES[name](folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ANYWHERE)
def test_it_may_happen_at_every_single_crossing(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histories, "STEP", 1)
    HISTORIES[name](folder)


# A range, one by one, in any order.

PARTS = [
    *((asset, day(number)) for asset in ("s", "left", "right", "joined") for number in range(9)),
    *(("weekly", day(number)) for number in (2, 9)),
]


def landed(folder: Path) -> World:
    world = World(folder, DIAMOND)
    land_days(world, "s", 0, *((number, number % 3) for number in range(9)))
    return world


def values_of(world: World) -> dict[tuple[str, str], Any]:
    """By partition: data version, name of the object, and the stored table."""
    lake = world.process().workspace.lake
    return {
        (asset, partition): (
            version,
            world.heads.fingerprints[asset, partition],
            lake.read(asset, partition, version).rows(),
        )
        for asset, versions in world.heads.now.items()
        for partition, version in versions.items()
    }


@pytest.fixture(scope="module")
def in_one_refresh(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    world = landed(tmp_path_factory.mktemp("whole"))
    world.refresh()
    return values_of(world)


def test_one_by_one_gives_what_a_refresh_gives(folder: Path, in_one_refresh: dict[Any, Any]) -> None:
    world = landed(folder)
    log = Log()
    for asset, partition in PARTS:
        outcome = world.process(log).materialize(asset, [partition])
        assert outcome.computed == {asset: [partition]}
    assert values_of(world) == in_one_refresh
    assert Counter(log.called) == Counter(in_one_refresh.keys())
    world.settle(world.expected(), [log])
    world.check_idle(world.build)


def test_a_run_of_a_range_of_several_assets_gives_what_a_refresh_gives(
    folder: Path, in_one_refresh: dict[Any, Any]
) -> None:
    world = landed(folder)
    process = world.process()
    days = [day(number) for number in range(9)]
    assets = ("joined", "right", "left", "s")
    Execution(
        process.workspace,
        process.heads,
        Request(frozenset(assets), lambda node, _key: node.name in assets, dict.fromkeys(assets, days)),
    ).run()
    assert world.process().materialize("weekly", [day(2), day(9)]).computed == {"weekly": [day(2), day(9)]}
    assert values_of(world) == in_one_refresh


@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(order=st.permutations(PARTS))
def test_the_order_of_runs_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, in_one_refresh: dict[Any, Any], order: list[tuple[str, str]]
) -> None:
    world = landed(tmp_path_factory.mktemp("order"))
    log = Log()
    for asset, partition in order:
        world.process(log).materialize(asset, [partition])
    world.process(log).refresh()
    assert values_of(world) == in_one_refresh
    assert max(Counter(log.created).values()) == 1
    world.check_sound(world.expected())
    world.check_idle(world.expected())


def test_a_person_gets_an_event_for_a_partition_that_is_fresh_and_it_changes_nothing(folder: Path) -> None:
    world = landed(folder)
    world.refresh()
    log = Log()
    outcome = world.process(log).materialize("left", [day(1), day(2)])
    assert outcome.reused == {"left": [day(1), day(2)]}
    assert (log.created, log.called) == ([], [])
    assert log.emitted == [("left", d, world.heads.now["left"][d]) for d in (day(1), day(2))]


# Two processes at a time.


def test_two_threads_commit_each_value_once(folder: Path) -> None:
    for attempt in range(4):
        world = landed(folder / str(attempt))
        logs = [Log(), Log()]
        start = threading.Barrier(2)
        failures: list[BaseException] = []

        def work(process: Process, start: Any = start, failures: list[BaseException] = failures) -> None:
            try:
                start.wait()
                process.refresh()
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=work, args=(world.process(log),)) for log in logs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        world.settle(world.expected(), logs)
        world.check_sound(world.build)
        world.check_stored(world.build)
        world.check_idle(world.build)


def test_a_run_does_not_tell_a_person_that_a_value_is_fresh_which_another_run_has_replaced(
    folder: Path,
) -> None:
    world = World(folder, (Source("s"), Derived("a", "top", (Window("s"),))))
    land_days(world, "s", 0, (1,))
    world.refresh()
    log = Log()

    def change() -> None:
        world.land("s", day(0), (2,))
        world.process().refresh()

    log.at[1] = change  # before the section in which the event is written
    outcome = world.process(log).materialize("a", [day(0)])
    assert outcome.interrupted == {"a": {day(0): "another run has changed it meanwhile"}}
    world.check_sound(world.expected())


# What lies in landing.


def test_a_day_with_two_files_is_refused_until_one_of_them_is_gone(folder: Path) -> None:
    world = World(folder, GATED)
    land_days(world, "s", 0, (1,), (2,))
    world.refresh()
    second = world.landed_path("s", day(1)).with_suffix(".csv.gz")
    second.write_text(text_of((2,)))
    for runs in (1, 0):
        report = world.process().refresh()
        assert report.runs == runs
        assert list(report.outcome.failed) == ["s"]
        assert "2 files for one partition" in report.outcome.failed["s"][day(1)]
        world.check_sound(world.build)
    second.unlink()
    assert world.refresh().runs == 0


def test_a_file_that_is_replaced_while_it_is_hashed_is_not_gone(folder: Path) -> None:
    class Busy(LandingFolder):
        times = 0

        def read(self, path: str) -> bytes:
            data = super().read(path)
            if self.times:
                self.times -= 1
                world.land("s", day(0), (7, self.times))
            return data

    world = World(folder, (Source("s"),))
    world.land("s", day(0), (1,))
    place = Busy(folder / "landing")
    landing = Landing(place, TraceIndex(folder / "index.db"))
    before = landing.scan({"s": Grain.DAY})["s"].digests
    place.times = 1
    after = landing.scan({"s": Grain.DAY})["s"].digests
    assert after.keys() == before.keys()
    assert after != before
    place.times = 100
    assert landing.scan({"s": Grain.DAY})["s"].digests == after


# What cannot be done.


def test_accepted_inputs_that_are_lost_leave_the_head_as_it_is(folder: Path) -> None:
    world = World(folder, GATED)
    land_days(world, "s", 0, (1,), (2,))
    world.refresh()
    world.land("s", day(1), (4,))
    world.refresh()
    gate = world.heads.now["gate"][day(1)]
    for path in (folder / "lake" / "open" / day(1)).iterdir():
        flip_a_byte(path)
    world.write_code(world.code.tuned("gate", 1))
    report = world.process().refresh()
    assert report.outcome.failed == {"gate": {day(1): f"gate {day(1)}: there is a value that is not wanted"}}
    assert world.heads.now["gate"][day(1)] == gate
    log = Log()
    assert world.process(log).refresh().runs == 0
    assert log == Log(crossings=log.crossings)


def test_a_value_that_cannot_be_stored_is_reported_and_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(folder, GATED)
    land_days(world, "s", 0, (1,), (2,))
    with monkeypatch.context() as patch:
        full = OSError(28, "No space left on device")
        patch.setattr("my_platform.storage.objects.FolderStore.create", lambda *_: _raise(full))
        for _ in range(2):
            report = world.process().refresh()
            assert report.outcome.failed["s"].keys() == {day(0), day(1)}
            assert "No space left on device" in report.outcome.failed["s"][day(1)]
    world.refresh()


def test_a_landing_that_is_empty_asks_for_nothing(folder: Path) -> None:
    world = World(folder, (*DIAMOND, Source("n", "once"), Derived("m", "top", (Window("n"),), "once")))
    assert world.refresh().runs == 0
    world.land("s", day(0), BROKEN)
    assert world.refresh().runs == 1
    world.remove("s", day(0))
    assert world.refresh().runs == 0


def _raise(error: Exception) -> None:
    raise error
