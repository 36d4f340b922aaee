"""What is over a budget is said, with its limit."""

from dataclasses import replace

import pytest

from my_platform.learning.budgets import Budget, Measured, WithFeatures, over_budget
from my_platform.learning.model_card import with_budget

BUDGET = Budget(5.0, 200.0, 1000, 1000, 60.0, WithFeatures(10.0, 100.0))
WITHIN = Measured(4.0, 300.0, 900, 900, 50.0, WithFeatures(9.0, 120.0))


def test_what_is_within_its_budget_is_over_nothing() -> None:
    assert over_budget(WITHIN, BUDGET) == []
    assert over_budget(replace(WITHIN, with_features=None), BUDGET) == []
    assert over_budget(WITHIN, replace(BUDGET, with_features=None)) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"p99_ms": 5.1}, "p99 of one row 5.10 ms, limit 5 ms"),
        ({"rows_per_s": 199.0}, "199 rows/s one by one, at least 200 are asked"),
        ({"file_bytes": 1001}, "files of 1,001 bytes, limit 1,000"),
        ({"memory_bytes": 1001}, "1,001 bytes of memory, limit 1,000"),
        ({"fit_s": 61.0}, "fitted in 61.0 s, limit 60.0 s"),
        (
            {"with_features": WithFeatures(10.5, 100.0)},
            "p99 of one row with its features 10.50 ms, limit 10 ms",
        ),
        (
            {"with_features": WithFeatures(9.0, 99.0)},
            "99 rows/s with their features, at least 100 are asked",
        ),
    ],
)
def test_each_limit_is_kept(given: dict[str, object], said: str) -> None:
    assert over_budget(replace(WITHIN, **given), BUDGET) == [said]


def test_a_model_card_shows_what_a_row_takes_with_its_features() -> None:
    card = with_budget("# A model\n", WITHIN, BUDGET, native=replace(WITHIN, with_features=None))
    assert "| p99 with its features | 9.00 ms |  | 10 ms |" in card
    assert "| rows a second with their features | 120 |  | at least 100 |" in card
