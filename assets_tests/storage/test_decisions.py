"""Decisions about rows, in a folder and in a bucket: written once, read together, never lost."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from my_platform.errors import PlatformError
from my_platform.incremental.declare import Grain, ordinal
from my_platform.storage.decisions import DecidedRow, Decision, Decisions
from my_platform.storage.places import LandingBucket, LandingFolder

ASSET, DAY = "validated/sales", "2018-04-01"
KEY = ordinal(DAY)
ASSETS = {ASSET: Grain.DAY, "validated/shops": Grain.ONCE}


def letting_in(*rows: str, reason: str = "seen", at: str = "2018-05-01T00:00:00Z") -> Decision:
    return Decision(
        "release", reason, "ada", at, tuple(DecidedRow(row, n, "negative") for n, row in enumerate(rows))
    )


def taking_back(*decisions: Decision) -> Decision:
    return Decision("undo", "was wrong", "bob", "2018-05-02T00:00:00Z", undoes=tuple(d.id for d in decisions))


@pytest.fixture
def decisions(location: str) -> Decisions:
    return Decisions(LandingBucket(location) if "://" in location else LandingFolder(Path(location)))


def rows(decisions: Decisions) -> frozenset[str]:
    return decisions.scan(ASSETS)[ASSET].rows.get(KEY, frozenset())


def digest(decisions: Decisions) -> bytes | None:
    return decisions.scan(ASSETS)[ASSET].landed.digests.get(KEY)


def test_where_nothing_was_decided_there_is_nothing(decisions: Decisions) -> None:
    assert [found.rows for found in decisions.scan(ASSETS).values()] == [{}, {}]
    assert decisions.about(ASSET, KEY, Grain.DAY) == {}


def test_the_rows_of_all_decisions_count(decisions: Decisions) -> None:
    decisions.add(ASSET, KEY, Grain.DAY, letting_in("a", "b"))
    decisions.add(ASSET, KEY, Grain.DAY, letting_in("b", "c"))
    decisions.add("validated/shops", 0, Grain.ONCE, letting_in("x"))
    assert rows(decisions) == {"a", "b", "c"}
    assert decisions.scan(ASSETS)["validated/shops"].rows == {0: {"x"}}


def test_the_version_says_which_rows_and_not_who_decided_or_why(decisions: Decisions) -> None:
    decisions.add(ASSET, KEY, Grain.DAY, letting_in("a", "b"))
    before = digest(decisions)
    decisions.add(ASSET, KEY, Grain.DAY, letting_in("b", reason="seen again"))
    assert digest(decisions) == before
    decisions.add(ASSET, KEY, Grain.DAY, letting_in("c"))
    assert digest(decisions) != before


def test_what_was_taken_back_leaves_nothing_behind_but_the_record(decisions: Decisions) -> None:
    first, second = letting_in("a"), letting_in("b")
    decisions.add(ASSET, KEY, Grain.DAY, first)
    before = digest(decisions)
    decisions.add(ASSET, KEY, Grain.DAY, second)
    decisions.add(ASSET, KEY, Grain.DAY, taking_back(second))
    assert digest(decisions) == before
    decisions.add(ASSET, KEY, Grain.DAY, taking_back(first))
    assert digest(decisions) is None
    assert len(decisions.about(ASSET, KEY, Grain.DAY)) == 4
    decisions.add(ASSET, KEY, Grain.DAY, replace(first, at="2018-05-03T00:00:00Z"))
    assert digest(decisions) == before


def test_decisions_that_are_written_at_once_all_count(decisions: Decisions) -> None:
    ready = threading.Barrier(8)

    def decide(number: int) -> None:
        ready.wait()
        decisions.add(ASSET, KEY, Grain.DAY, letting_in(f"row {number}"))

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows(decisions) == {f"row {number}" for number in range(8)}


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"what": "release"}', letting_in("other").data, b"\xff"]
)
def test_a_file_that_is_no_decision_blocks_its_partition_by_name(decisions: Decisions, data: bytes) -> None:
    decisions.add(ASSET, KEY, Grain.DAY, letting_in("a"))
    path = f"decisions/{ASSET}/{DAY}/{letting_in('b').id}.json"
    decisions.place.create(path, data)
    found = decisions.scan(ASSETS)[ASSET]
    assert (
        f"{decisions.place.root}/{path} is not a decision as `my-platform release` wrote it"
        in found.landed.blocked[KEY]
    )
    assert KEY in found.landed.digests
    with pytest.raises(PlatformError, match="is not a decision"):
        decisions.about(ASSET, KEY, Grain.DAY)


def test_other_files_beside_decisions_are_left_alone(decisions: Decisions) -> None:
    decisions.add(ASSET, KEY, Grain.DAY, letting_in("a"))
    for path in (
        "README.md",
        f"{ASSET}/{DAY}/note.txt",
        f"{ASSET}/someday/x.json",
        f"other/{DAY}/x.json",
        f"{ASSET}/x.json",
    ):
        decisions.place.create(f"decisions/{path}", b"x")
    assert rows(decisions) == {"a"}
