"""Drift from sketches: what the statistics are, and what does not move them."""

import math

import numpy as np
import pytest
from scipy import stats

from my_platform.quality import drift
from my_platform.quality.drift import Sketch


def sketch(values: np.ndarray) -> Sketch:
    return np.sort(values)[np.linspace(0, len(values) - 1, 101).round().astype(int)]


def normal(shift: float = 0.0, rows: int = 5000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, rows)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5, 2.0])
def test_the_distance_is_that_of_the_whole_columns(shift: float) -> None:
    one, other = normal(), normal(shift, seed=1)
    (found,) = drift.distances([sketch(other)], sketch(one))
    assert found == pytest.approx(stats.ks_2samp(one, other).statistic, abs=0.02)


def test_the_distance_of_equal_sketches_is_zero_and_of_disjoint_ones_is_one() -> None:
    base = sketch(normal())
    assert drift.distances([base, base + 100], base) == [0.0, 1.0]


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0])
def test_the_index_is_that_of_the_whole_columns_over_tenths(shift: float) -> None:
    one, other = normal(), normal(shift, seed=1)
    edges = np.quantile(one, np.linspace(0.1, 0.9, 9))
    shares = [np.bincount(np.searchsorted(edges, v), minlength=10) / len(v) for v in (other, one)]
    whole = sum((a - b) * math.log(a / b) for a, b in zip(*shares, strict=True))
    (found,) = drift.indices([sketch(other)], sketch(one), [5000])
    assert found == pytest.approx(whole, abs=0.05, rel=0.1)


def test_a_column_of_one_value_has_an_index() -> None:
    base = np.zeros(101)
    assert drift.indices([base, base + 1], base, [500, 500])[0] == 0.0
    assert drift.indices([base + 1], base, [500])[0] > 5


def test_broken_days_do_not_bend_the_reference() -> None:
    days = [sketch(normal(seed=seed)) for seed in range(28)]
    broken = [*days[:20], *(day * 1000 for day in days[20:])]
    assert drift.distances([drift.reference(broken)], drift.reference(days))[0] < 0.15
    assert (np.diff(drift.reference(broken)) >= 0).all()


def test_values_that_come_and_go_around_the_least_named_share_are_no_drift() -> None:
    common = {"a": 0.5, "b": 0.3}
    days = [common | {f"rare {n}": 0.005} for n in range(20)]
    ref = drift.reference_shares(days)
    assert drift.share_indices([common, common | {"rare 3": 0.02}], ref, [500, 500]) == pytest.approx(
        [0, 0], abs=1e-6
    )


def test_a_new_value_and_a_vanished_one_are_drift() -> None:
    days = [{"a": 0.5, "b": 0.5}] * 9
    ref = drift.reference_shares(days)
    vanished, new = drift.share_indices([{"a": 1.0}, {"a": 0.4, "b": 0.4, "c": 0.2}], ref, [500, 500])
    assert vanished > 0.5
    assert new > 0.5


def test_chance_gives_one_day_in_a_hundred_thousand_more() -> None:
    assert stats.kstwobign.sf(drift.chance_distance(10_000) * 100) == pytest.approx(1e-5, rel=0.1)
    assert stats.chi2(9).sf(drift.chance_index(1)) == pytest.approx(1e-5, rel=0.3)
