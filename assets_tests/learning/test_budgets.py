"""What is over a budget is said, with its limit."""

from dataclasses import replace

import pytest

from my_platform.learning.budgets import Budget, Measured, WithFeatures, over_budget
from my_platform.learning.model_card import with_budget

BUDGET = Budget(5.0, 200.0, 1000, 1000, 60.0, WithFeatures(10.0, 100.0), fit_cpu_s=90.0, fit_gpu_s=0.0)
WITHIN = Measured(4.0, 300.0, 900, 900, 50.0, WithFeatures(9.0, 120.0), fit_cpu_s=80.0)


def test_what_is_within_its_budget_is_over_nothing() -> None:
    assert over_budget(WITHIN, BUDGET) == []
    assert over_budget(replace(WITHIN, with_features=None), BUDGET) == []
    assert over_budget(WITHIN, replace(BUDGET, with_features=None)) == []
    assert over_budget(replace(WITHIN, fit_cpu_s=1e9), replace(BUDGET, fit_cpu_s=None)) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"p99_ms": 5.1}, "p99 of one row 5.10 ms, limit 5 ms"),
        ({"rows_per_s": 199.0}, "199 rows/s one by one, at least 200 are asked"),
        ({"file_bytes": 1001}, "files of 1,001 bytes, limit 1,000"),
        ({"memory_bytes": 1001}, "1,001 bytes of memory, limit 1,000"),
        ({"fit_s": 61.0}, "fitted in 61.0 s, limit 60.0 s"),
        ({"fit_cpu_s": 91.0}, "fitting cost 91.0 s of processors, limit 90.0 s"),
        ({"fit_gpu_s": 0.5}, "fitting cost 0.5 s of devices, limit 0.0 s"),
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


def test_a_model_card_shows_what_fitting_cost_where_that_is_limited() -> None:
    assert "| fitting, of processors | 80.0 s | 90 s |" in with_budget("# A model\n", WITHIN, BUDGET)
    free = replace(BUDGET, fit_cpu_s=None, fit_gpu_s=None)
    assert "of processors" not in with_budget("# A model\n", WITHIN, free)
