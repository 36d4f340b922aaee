import math
from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from my_platform.errors import Refused
from my_platform.learning import metrics

DAY = date(2018, 8, 8)
LABEL = np.array([False, False, True, True])
SCORE = np.array([0.1, 0.4, 0.35, 0.8])

FIGURES: list[Callable[..., object]] = [
    metrics.auc_roc,
    metrics.average_precision,
    metrics.roc_points,
    metrics.precision_recall_points,
    metrics.calibration_bins,
    metrics.score_histogram,
]


def scored_rows(*rows: tuple[int, int, float, bool]) -> pl.DataFrame:
    """Scored rows from (days after DAY, cluster, score, label)."""
    dated = [(DAY + timedelta(days=day), cluster, score, label) for day, cluster, score, label in rows]
    schema = {"day": pl.Date, "cluster": pl.Int64, "score": pl.Float64, "label": pl.Boolean}
    return pl.DataFrame(dated, schema=schema, orient="row")


def many_scores(rows: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated scores around 1 % with labels drawn from them."""
    random = np.random.default_rng(7)
    score = 1 / (1 + np.exp(-random.normal(-5, 2, rows)))
    return random.random(rows) < score, score


def naive_precision_at_k(scored: pl.DataFrame, k: int) -> tuple[list[float], float]:
    """Precision at k by its words, one cluster after another."""
    detected: set[int] = set()
    precisions = []
    for day in sorted(set(scored["day"])):
        best: dict[int, float] = {}
        positive: set[int] = set()
        for _, cluster, score, label in scored.filter(pl.col("day") == day).rows():
            if cluster in detected:
                continue
            best[cluster] = max(score, best.get(cluster, -math.inf))
            if label:
                positive.add(cluster)
        highest = sorted(best, key=lambda cluster: (-best[cluster], cluster))[:k]
        found = positive & set(highest)
        detected |= found
        precisions.append(len(found) / k)
    return precisions, sum(precisions) / len(precisions)


def test_ranking_figures_have_their_textbook_values() -> None:
    assert metrics.auc_roc(LABEL, SCORE) == pytest.approx(0.75)
    assert metrics.average_precision(LABEL, SCORE) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


@pytest.mark.parametrize("figure", FIGURES)
def test_a_week_without_positives_is_refused_with_its_counts(figure: Callable[..., object]) -> None:
    with pytest.raises(Refused, match="0 positives in 4 rows"):
        figure(np.zeros(4, dtype=bool), SCORE)


@pytest.mark.parametrize("figure", FIGURES)
def test_a_missing_score_is_refused(figure: Callable[..., object]) -> None:
    with pytest.raises(Refused, match="1 other scores in 4 rows"):
        figure(LABEL, np.array([0.1, math.nan, 0.2, 0.3]))


def test_an_unlabelled_row_is_refused() -> None:
    with pytest.raises(Refused, match="1 other labels"):
        metrics.auc_roc(pl.Series([True, None, False, True]), SCORE)


@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 3), st.integers(0, 12), st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.booleans()
        ),
        min_size=1,
        max_size=80,
    ),
    k=st.integers(1, 6),
)
@settings(max_examples=60, deadline=None)
def test_precision_at_k_equals_a_naive_count_whatever_the_order_of_rows(
    rows: list[tuple[int, int, float, bool]], k: int
) -> None:
    scored = scored_rows(*rows)
    by_day, mean = naive_precision_at_k(scored, k)
    for frame in (scored, scored.reverse()):
        found = metrics.precision_at_k(frame, k)
        assert found.by_day["precision"].to_list() == by_day
        assert found.mean == pytest.approx(mean)


def test_of_equal_scores_the_lower_cluster_is_looked_at() -> None:
    tied = scored_rows((0, 2, 0.5, True), (0, 1, 0.5, False))
    assert metrics.precision_at_k(tied, k=1).mean == 0.0


def test_a_found_cluster_is_not_looked_at_again() -> None:
    again = scored_rows((0, 1, 0.9, True), (0, 2, 0.1, False), (1, 1, 0.9, True), (1, 2, 0.1, True))
    by_day = metrics.precision_at_k(again, k=1).by_day
    assert by_day["clusters"].to_list() == [2, 1]
    assert by_day["found"].to_list() == [1, 1]


def test_a_day_of_fewer_than_k_clusters_is_still_divided_by_k() -> None:
    assert metrics.precision_at_k(scored_rows((0, 1, 0.9, True)), k=4).mean == 0.25


def test_precision_at_k_of_no_rows_or_of_missing_values_is_refused() -> None:
    with pytest.raises(Refused, match="found none"):
        metrics.precision_at_k(scored_rows())
    with pytest.raises(Refused, match="'score': 1"):
        metrics.precision_at_k(scored_rows((0, 1, math.nan, True)))
    with pytest.raises(Refused, match="found 0"):
        metrics.precision_at_k(scored_rows((0, 1, 0.5, True)), k=0)


def test_an_evaluation_holds_the_three_figures_and_the_counts() -> None:
    scored = scored_rows(*((0, cluster, SCORE[cluster], LABEL[cluster]) for cluster in range(4)))
    found = metrics.evaluate(scored, k=2)
    assert (found.rows, found.positives) == (4, 2)
    assert found.auc_roc == pytest.approx(0.75)
    assert found.average_precision == pytest.approx(5 / 6)
    assert found.precision_at_k.mean == 0.5


def test_curves_have_few_points_and_both_ends() -> None:
    label, score = many_scores()
    roc = metrics.roc_points(label, score, max_points=50)
    assert roc.height <= 50
    assert roc.row(0) == (0.0, 0.0)
    assert roc.row(-1) == (1.0, 1.0)
    curve = metrics.precision_recall_points(label, score, max_points=50)
    assert curve.height <= 50
    assert (curve["recall"][0], curve["recall"][-1]) == (0.0, 1.0)
    assert curve["recall"].is_sorted()


def test_a_thinned_roc_curve_keeps_the_area() -> None:
    label, score = many_scores()
    points = metrics.roc_points(label, score)
    area = np.trapezoid(points["true_positive_rate"], points["false_positive_rate"])
    assert area == pytest.approx(metrics.auc_roc(label, score), abs=2e-3)


def test_calibration_bins_hold_every_row_once_and_meet_a_true_score() -> None:
    label, score = many_scores()
    bins = metrics.calibration_bins(label, score)
    assert bins["rows"].sum() == len(score)
    assert bins["rows"][0] == len(score) // 2
    assert bins["positives"].sum() == label.sum()
    assert bins["mean_score"].is_sorted()
    inside = bins.filter(pl.col("mean_score").is_between("rate_low", "rate_high"))
    assert inside.height >= bins.height - 2


def test_calibration_of_a_few_rows_leaves_no_empty_bin() -> None:
    assert metrics.calibration_bins(LABEL, SCORE)["rows"].to_list() == [2, 1, 1]


def test_a_histogram_counts_every_row_of_both_classes() -> None:
    label, score = many_scores()
    score[:2] = 0.0, 1.0
    bins = metrics.score_histogram(label, score, bins=30)
    assert bins.height == 30
    assert bins["positive"].sum() == label.sum()
    assert bins["negative"].sum() == (~label).sum()


def test_a_histogram_refuses_scores_that_are_no_probabilities() -> None:
    with pytest.raises(Refused, match="between 0 and 1"):
        metrics.score_histogram(LABEL, SCORE * 2)
