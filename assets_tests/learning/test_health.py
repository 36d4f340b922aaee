"""When a champion has to go."""

import polars as pl
import pytest

from my_platform.learning.bootstrap import Interval
from my_platform.learning.detection import AVERAGE_PRECISION
from my_platform.learning.health import Health, InService, Limits, breaches, score_classes
from my_platform.learning.measure import Measure
from my_platform.learning.regression import AbsoluteError
from my_platform.quality.drift import stability_index

WELL = Interval(0.75, 0.70, 0.80)
LIMITS = Limits()


def told(health: Health, measure: Measure = AVERAGE_PRECISION) -> str:
    return "; ".join(breaches(health, LIMITS, measure))


def test_a_champion_within_its_limits_breaches_nothing() -> None:
    service = InService("b", requests=10_000, errors=5, p99_ms=3.0)

    assert told(Health(0.76, [("w", WELL)], 0.1, "w", service)) == ""
    assert told(Health()) == ""


@pytest.mark.parametrize(("error", "breached"), [(2.0, True), (0.5, False)])
def test_an_error_breaches_where_it_has_grown(error: float, breached: bool) -> None:
    found = told(Health(1.0, [("w", Interval(error, error - 0.1, error + 0.1))]), AbsoluteError())
    assert found.startswith("mean absolute error of week w") is breached


@pytest.mark.parametrize(("high", "breached"), [(0.72, False), (0.709, True)])
def test_a_matured_week_counts_only_where_its_whole_interval_is_too_low(high: float, breached: bool) -> None:
    assert bool(told(Health(0.76, [("w", Interval(0.65, 0.6, high))]))) is breached


@pytest.mark.parametrize(
    ("service", "said"),
    [
        (InService("b", 10_000, 200, 3.0), "200 of 10,000 requests failed (2.00%)"),
        (InService("b", 10_000, 0, 80.0), "p99 of a request is 80.0 ms"),
        (InService("b", 999, 999, 999.0), ""),
    ],
)
def test_a_service_is_judged_by_enough_requests(service: InService, said: str) -> None:
    assert told(Health(service=service)).partition(", limit")[0] == said


def test_scores_that_moved_are_told_and_others_are_not() -> None:
    tested = pl.Series([n / 1000 for n in range(1000)])

    same, moved = (stability_index(*score_classes(tested, scores), 1000) for scores in (tested, tested * 0.3))

    assert same == 0.0
    assert moved > LIMITS.score_index
    assert "stability index" in told(Health(score_index=moved, scored_week="w"))
