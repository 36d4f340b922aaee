"""Stored JSON under the names that its values have now."""

from my_platform.learning.stored import under_present_names


def test_what_lacks_is_found_under_its_former_name() -> None:
    names = ("rows", "positives")
    assert under_present_names({"rows": 5, "frauds": 2, "more": 1}, names) == {
        "rows": 5,
        "positives": 2,
        "more": 1,
    }


def test_what_is_there_or_has_no_former_name_is_left_alone() -> None:
    for stored in (
        {"rows": 5, "positives": 2},
        {"rows": 5},
        {"rows": 5, "faults": 2},
        {"positives": 2, "frauds": 3},
    ):
        assert under_present_names(stored, ("rows", "positives")) == stored
