"""Decisions to fit a week: written once by one of many, never changed, and read as they were written."""

import threading
from pathlib import Path

import pytest

from my_platform.errors import PlatformError
from my_platform.incremental.declare import ordinal
from my_platform.storage.places import LandingPlace, open_place
from my_platform.storage.retraining import FitDecision, FitDecisions

MODEL = "group/trees"
WEEK = "2025-01-08"


def decision(by: str, week: str = WEEK) -> FitDecision:
    return FitDecision(
        MODEL, week, "challenger", "drift: of prices", by, "2025-01-09T10:00:00", "r", {"n": 1}
    )


@pytest.fixture
def place(location: str) -> LandingPlace:
    return open_place(location)


def test_of_many_that_decide_at_once_one_has_written_it(place: LandingPlace) -> None:
    decisions = FitDecisions(place)
    start, wrote = threading.Barrier(8), []

    def decide(number: int) -> None:
        start.wait()
        if decisions.add(decision(f"writer {number}")):
            wrote.append(f"writer {number}")

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = wrote
    assert decisions.about(MODEL, ordinal(WEEK)) == decision(winner)
    assert [each.rpartition("/")[2] for each in place.below("retraining")] == [f"{WEEK}.json"]


def test_weeks_are_told_by_model_and_what_is_no_decision_is_none(place: LandingPlace) -> None:
    decisions = FitDecisions(place)
    for week in ("2025-01-15", WEEK):
        assert decisions.add(decision("ada", week))
    for other in ("2025-01-22.txt", "2025-02-30.json", "readme.json", "deeper/2025-01-22.json"):
        place.create(f"retraining/{MODEL}/{other}", b"{}")
    assert decisions.weeks([MODEL, "trees"]) == {
        MODEL: frozenset([ordinal(WEEK), ordinal("2025-01-15")]),
        "trees": frozenset(),
    }
    assert [each.week for each in decisions.of(MODEL)] == [WEEK, "2025-01-15"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", decision("ada", "2025-01-15").data])
def test_what_is_not_as_it_was_written_is_named_and_still_counts(tmp_path: Path, data: bytes) -> None:
    place = open_place(str(tmp_path))
    decisions = FitDecisions(place)
    place.create(f"retraining/{MODEL}/{WEEK}.json", data)
    assert decisions.weeks([MODEL]) == {MODEL: frozenset([ordinal(WEEK)])}
    assert not decisions.add(decision("ada"))
    with pytest.raises(PlatformError, match=f"{MODEL}/{WEEK}.json is not a decision"):
        decisions.of(MODEL)
