"""Stored JSON under the names that its values have now."""

from my_platform.learning.stored import under_present_names


def test_the_one_name_that_is_unknown_is_the_one_that_lacks() -> None:
    assert under_present_names({"rows": 5, "faults": 2}, ("rows", "positives")) == {"rows": 5, "positives": 2}


def test_what_is_complete_or_leaves_a_choice_is_left_alone() -> None:
    for stored in ({"rows": 5, "positives": 2}, {"rows": 5}, {"rows": 5, "a": 1, "b": 2}, {"a": 1}):
        assert under_present_names(stored, ("rows", "positives")) == stored
