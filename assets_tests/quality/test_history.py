"""Bands of a number by the days before it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from my_platform.quality.freshness import last_due_day, missing_days
from my_platform.quality.history import Band, Limits, expected, median

MONDAY = 4  # 1970-01-05


def days(values: list[float], before: int) -> list[tuple[int, float]]:
    return [(before - len(values) + number, value) for number, value in enumerate(values)]


def test_the_centre_is_the_median_and_the_half_width_a_multiple_of_the_deviation() -> None:
    values = [100.0, 104.0, 96.0, 102.0, 98.0, 100.0, 100.0] * 4
    found = expected(days(values, 28), 28, 0.0, Band(spreads=6.0), 100.0)
    # The median absolute deviation is 2; 28 days widen the band by a quarter.
    assert found is not None
    assert (found.lower, found.upper) == pytest.approx(
        (100 - 6 * 1.25 * 1.4826 * 2, 100 + 6 * 1.25 * 1.4826 * 2)
    )


def test_too_few_days_give_no_band() -> None:
    assert expected(days([1.0] * 6, 6), 6, 1.0, Band(), 1.0) is None


def test_broken_days_in_the_history_do_not_widen_a_band() -> None:
    values = [100.0, 104.0, 96.0, 102.0, 98.0, 100.0, 100.0] * 4
    broken = [*values[:10], 0.0, 1e9, *values[12:]]
    wide = expected(days(broken, 28), 28, 0.0, Band(), 100.0)
    assert wide is not None
    assert wide.upper < 140


@pytest.mark.parametrize(
    ("band", "noise", "half"),
    [(Band(least_share=0.2), 0.0, 20.0), (Band(least=3.0), 0.0, 3.0), (Band(spreads=2.0), 4.0, 10.0)],
)
def test_a_band_is_never_narrower_than_it_may_be(band: Band, noise: float, half: float) -> None:
    found = expected(days([100.0] * 28, 28), 28, noise, band, 100.0)
    assert found == Limits(100.0 - half, 100.0 + half)


def test_a_rhythm_of_weeks_is_no_deviation() -> None:
    values = [100.0, 101.0, 99.0, 100.0, 102.0, 40.0, 41.0] * 4
    before, band = days(values, MONDAY + 28), Band(least_share=0.1)
    saturday = expected(before, MONDAY + 33, 1.0, band, 40.0)
    assert saturday is not None
    assert saturday.holds(41.0)
    monday = expected(before, MONDAY + 28, 1.0, band, 41.0)
    assert monday is not None
    assert not monday.holds(41.0)


def test_how_far_off_a_value_is_counts_in_half_widths() -> None:
    limits = Limits(80.0, 120.0)
    assert (limits.times_off(100), limits.times_off(120), limits.times_off(60)) == (0.0, 1.0, 2.0)
    assert Limits(5.0, 5.0).times_off(5.0) == 0.0
    assert Limits(5.0, 5.0).times_off(6.0) == float("inf")


@given(st.lists(st.floats(-1e9, 1e9), min_size=7, max_size=28), st.randoms())
def test_a_band_does_not_depend_on_the_order_of_equal_weekdays(
    values: list[float], draw: random.Random
) -> None:
    before = [(7 * number, value) for number, value in enumerate(values)]
    shuffled = list(values)
    draw.shuffle(shuffled)
    again = [(7 * number, value) for number, value in enumerate(shuffled)]
    assert expected(before, 7 * 29, 1.0, Band(), 0.0) == expected(again, 7 * 29, 1.0, Band(), 0.0)


def test_the_median_is_one_of_the_values() -> None:
    assert median([4.0, 1.0, 3.0, 2.0]) == 2.0


class TestMissingDays:
    def test_a_gap_is_missing_and_what_lies_before_the_first_day_is_not(self) -> None:
        assert missing_days({10, 11, 13, 14}, 5, 16) == [12, 15, 16]

    def test_a_weekday_that_never_lands_is_not_missing(self) -> None:
        landed = {day for day in range(60) if day % 7 != 3}
        assert missing_days(landed, 10, 59) == []
        assert missing_days(landed - {40}, 10, 59) == [40]

    def test_a_weekday_is_forgotten_after_four_weeks_without_it(self) -> None:
        landed = {day for day in range(80) if day % 7 != 3 or day < 20}
        assert missing_days(landed, 20, 79) == [24, 31, 38, 45]

    def test_of_nothing_nothing_is_missing(self) -> None:
        assert missing_days(set(), 10, 9) == []

    @pytest.mark.parametrize(("hours", "last"), [(0, 7), (5, 7), (6, 8), (29, 8), (30, 9)])
    def test_a_day_is_due_some_hours_after_its_end(self, hours: int, last: int) -> None:
        assert last_due_day((9 * 24 + hours) * 3600.0, due_h=6) == last
