"""What waits to be written is found, written in its order, and waits on where writing fails."""

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from my_platform.features.online import Event
from my_platform.serving import write_behind
from my_platform.serving.sqlite_store import SqliteStore
from my_platform.serving.store import EntityEvent, Partition, Remembered
from my_platform.serving.write_behind import WriteBehind


class Stubborn(SqliteStore):
    """A file that can be told not to take anything, or to wait before it does."""

    fails = False
    appended = 0
    before: threading.Event | None = None

    def append(self, events: Iterable[EntityEvent], rows: Iterable[Remembered] = ()) -> None:
        if self.fails:
            raise OSError("no space left")
        if self.before is not None:
            self.before.wait(10)
        self.appended += 1
        super().append(events, rows)


@pytest.fixture
def stubborn(tmp_path: Path) -> Iterator[Stubborn]:
    store = Stubborn(tmp_path / "state.sqlite")
    yield store
    store.close()


def take_in(store: WriteBehind, *numbers: int) -> None:
    for number in numbers:
        event = Event(number, number, (number * 0.5,))
        store.append([EntityEvent("a", number % 2, event)], [Remembered(number, number, {"n": number})])


def test_what_waits_is_written_by_one_transaction(stubborn: Stubborn) -> None:
    store = WriteBehind(stubborn)
    take_in(store, 1, 2, 3)
    assert (stubborn.appended, stubborn.row(3), store.waits) == (0, None, True)
    store.flush()
    store.flush()
    assert (stubborn.appended, stubborn.row(3), store.waits) == (1, {"n": 3}, False)


def test_the_first_that_waits_is_told_and_no_other(stubborn: Stubborn) -> None:
    store = WriteBehind(stubborn)
    told: list[bool] = []
    store.on_first = lambda: told.append(store.waits)
    take_in(store, 1, 2)
    store.flush()
    store.flush()
    take_in(store, 3)
    assert told == [True, True]


@pytest.mark.parametrize("read", ["events", "row", "rows"])
def test_reading_finds_what_waits(stubborn: Stubborn, read: str) -> None:
    store = WriteBehind(stubborn)
    take_in(store, 1, 3)
    found = {
        "events": lambda: [event.order for event in store.events("a", 1)],
        "row": lambda: [store.row(number) for number in (1, 3)],
        "rows": lambda: [store.rows([1, 3, 5])],
    }[read]()
    assert (
        found == {"events": [1, 3], "row": [{"n": 1}, {"n": 3}], "rows": [{1: {"n": 1}, 3: {"n": 3}}]}[read]
    )


def test_reading_of_others_writes_nothing(stubborn: Stubborn) -> None:
    store = WriteBehind(stubborn)
    take_in(store, 1)
    assert (store.events("a", 0), store.rows([2]), stubborn.appended) == ([], {}, 0)


def test_a_partition_counts_after_what_came_before_it(stubborn: Stubborn) -> None:
    store = WriteBehind(stubborn)
    take_in(store, 1)
    store.replace([Partition("a", "day", "v", [(1, Event(1, 1, (7.5,)))])])
    assert store.events("a", 1) == [Event(1, 1, (7.5,))]


def test_what_could_not_be_written_waits_on_before_what_came_later(stubborn: Stubborn) -> None:
    store = WriteBehind(stubborn)
    take_in(store, 1)
    stubborn.fails = True
    with pytest.raises(OSError, match="no space left"):
        store.flush()
    assert store.waits
    take_in(store, 3)
    stubborn.fails = False
    assert [event.order for event in store.events("a", 1)] == [1, 3]


def test_too_much_that_waits_is_written_at_once(stubborn: Stubborn) -> None:
    store = WriteBehind(stubborn)
    take_in(store, *range(write_behind.MOST_WAITING))
    assert stubborn.row(0) == {"n": 0}


def test_appending_does_not_wait_for_writing_in_another_thread(stubborn: Stubborn) -> None:
    store = WriteBehind(stubborn)
    stubborn.before = threading.Event()
    take_in(store, 1)
    writer = threading.Thread(target=store.flush)
    writer.start()
    take_in(store, 3)
    assert (store.rows([5]), stubborn.appended) == ({}, 0)
    stubborn.before.set()
    writer.join()
    assert [event.order for event in store.events("a", 1)] == [1, 3]


def test_closing_writes_what_waits(tmp_path: Path) -> None:
    store = WriteBehind(SqliteStore(tmp_path / "state.sqlite"))
    take_in(store, 1)
    store.close()
    reopened = SqliteStore(tmp_path / "state.sqlite")
    assert reopened.row(1) == {"n": 1}
    reopened.close()
