"""Figures of forecasts, and the gain of one model over another: above 0 where its errors are smaller."""

import numpy as np
import polars as pl
import pytest

from my_platform.errors import Refused
from my_platform.learning import evidence
from my_platform.learning.forecast_evaluation import errors_by_hour
from my_platform.learning.forecast_report import forecast_report
from my_platform.learning.gate import Case, Policy, judge
from my_platform.learning.regression import ABSOLUTE_ERROR, forecast_intervals

DRAW = np.random.default_rng(1)
CLUSTERS, EACH = 30, 20


def rows(error: float, champion: float = 10.0) -> pl.DataFrame:
    """Values around 100, with forecasts that are off by about as much."""
    value = DRAW.uniform(50, 150, CLUSTERS * EACH)
    off = DRAW.choice([-1.0, 1.0], value.size)
    return pl.DataFrame(
        {
            "cluster": np.repeat(np.arange(CLUSTERS), EACH),
            "label": value,
            "score": value + off * error,
            "naive": value + off * 20.0,
            "champion_score": value + off * champion,
            "PART": np.arange(value.size) % 2 == 0,
        }
    )


def test_the_figures_of_known_errors_are_these() -> None:
    found = forecast_intervals(rows(5.0))
    assert found["mae"].value == pytest.approx(5.0)
    assert found["rmse"].value == pytest.approx(5.0)
    assert found["skill"].value == pytest.approx(0.75)
    assert found["calibration"].value == pytest.approx(1.0, abs=0.02)
    assert found["mae"].low <= found["mae"].value <= found["mae"].high


def test_where_the_naive_forecast_has_no_value_the_skill_leaves_the_row_out() -> None:
    half = pl.when("PART").then(None).otherwise("naive")
    spoiled = rows(5.0).with_columns(
        score=pl.when("PART").then(pl.col("score") + 1000).otherwise("score"), naive=half
    )
    assert forecast_intervals(spoiled)["skill"].value == pytest.approx(0.75)


def test_where_it_has_no_value_at_all_there_is_no_skill_and_the_report_says_so() -> None:
    tested = rows(5.0).with_columns(naive=pl.lit(None, pl.Float64), hour=pl.col("cluster") % 24)
    found = forecast_intervals(tested)
    assert "skill" not in found
    figures = {
        **{
            "week": "2026-02-04",
            "model": "sales",
            "model_version": "0",
            "chosen_on": False,
            "unit": "pieces",
        },
        "models": {"naive": dict.fromkeys(("mae", "rmse", "wape"))},
        "test": {"rows": tested.height},
        "by_hour": errors_by_hour(tested).to_dicts(),
        "slices": [],
    }
    train = {"from": "2026-01-01", "to": "2026-01-28", "rows": 1}
    about = {"train": train, "training_set": "0", "window_days": 28, "parameters": {}, "seeds": {}}
    contributions = pl.DataFrame({"feature": ["PRICE"], "contribution": [1.0]})
    importance = pl.DataFrame({"feature": ["PRICE"], "gain": [1.0]})
    html = forecast_report(figures, found, about, "a week", contributions, importance)
    assert "the naive forecast has no value" in html
    assert "than the naive one" not in html


@pytest.mark.parametrize(("error", "kept"), [(8.0, True), (10.0, False), (12.0, False)])
def test_only_smaller_errors_pass_the_gate(error: float, kept: bool) -> None:
    weeks = [rows(error), rows(error)]
    policy = Policy(replicates=100)
    gain = evidence.gain(weeks, policy, ABSOLUTE_ERROR)
    expected, observed = ABSOLUTE_ERROR.totals(weeks)
    case = Case("new recipe", ["a", "b"], expected, observed, ["a", "b"], gain, gained=ABSOLUTE_ERROR.gained)

    verdict = judge(case, policy, ABSOLUTE_ERROR)

    assert gain is not None
    assert gain.value == pytest.approx(1 - error / 10.0)
    assert {reason.rule: reason.kept for reason in verdict.reasons}["better"] is kept


def test_a_slice_that_is_worse_is_found() -> None:
    weeks = [rows(8.0).with_columns(score=pl.when("PART").then(pl.col("label") + 15).otherwise("score"))]
    gains = {part.name: part for part in evidence.slice_gains(weeks, ["PART"], ABSOLUTE_ERROR)}
    assert gains["part: yes"].gain == pytest.approx(-0.5)
    assert gains["part: no"].gain == pytest.approx(0.2)
    assert gains["part: yes"].positives == CLUSTERS * EACH // 2


def test_an_error_that_grew_is_worse_and_one_that_shrank_is_not() -> None:
    least = ABSOLUTE_ERROR.least(5.0, 0.3)
    assert ABSOLUTE_ERROR.is_worse(ABSOLUTE_ERROR.interval(rows(7.0)), least)
    assert not ABSOLUTE_ERROR.is_worse(ABSOLUTE_ERROR.interval(rows(6.0)), least)
    assert ABSOLUTE_ERROR.rank(4.0) > ABSOLUTE_ERROR.rank(5.0)


def test_a_row_without_a_value_is_refused() -> None:
    with pytest.raises(Refused, match="finite"):
        forecast_intervals(rows(5.0).with_columns(label=pl.lit(None, pl.Float64)))
