from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from my_platform.errors import Refused
from my_platform.learning import metrics
from my_platform.learning.bootstrap import PairedWeek, Ranking, difference_interval, figure_intervals

DAY = date(2018, 8, 8)
ROWS = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.integers(0, 5)),
    min_size=2,
    max_size=40,
).filter(lambda rows: 0 < sum(row[0] for row in rows) < len(rows))


def scored_week(rows: int = 4_000, clusters: int = 300, skill: float = 3.0, seed: int = 5) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    label = random.random(rows) < 0.05
    log_odds = random.normal(-4, 1, rows) + skill * label
    return pl.DataFrame(
        {
            "day": [DAY + timedelta(days=int(n)) for n in random.integers(0, 7, rows)],
            "cluster": random.integers(0, clusters, rows),
            "score": 1 / (1 + np.exp(-log_odds)),
            "label": label,
        }
    )


def paired(week: pl.DataFrame, champion: pl.Series) -> PairedWeek:
    return PairedWeek(week["label"], week["cluster"], week["score"], champion)


@given(rows=ROWS, counts=st.lists(st.integers(0, 3), min_size=6, max_size=6))
@settings(max_examples=80, deadline=None)
def test_a_cluster_drawn_several_times_counts_as_so_many_copies_of_its_rows(
    rows: list[tuple[bool, float, int]], counts: list[int]
) -> None:
    ranking = Ranking(
        np.array([row[0] for row in rows]), np.array([row[1] for row in rows]), np.array([r[2] for r in rows])
    )
    copied = [row for row in rows for _ in range(counts[row[2]])]
    label, score = [row[0] for row in copied], [row[1] for row in copied]
    found = ranking.measure(np.array(counts))
    if sum(label) in (0, len(label)):
        assert np.isnan(found).all()
    else:
        assert found == pytest.approx(
            (metrics.average_precision(label, score), metrics.auc_roc(label, score))
        )


def test_the_figures_in_the_middle_are_those_of_the_evaluation() -> None:
    week = scored_week()
    found, figures = figure_intervals(week, k=20, replicates=2), metrics.evaluate(week, k=20)
    assert found["average_precision"].value == pytest.approx(figures.average_precision)
    assert found["auc_roc"].value == pytest.approx(figures.auc_roc)
    assert found["precision_at_k"].value == pytest.approx(figures.precision_at_k.mean)
    assert found["calibration"].value == pytest.approx(week["score"].sum() / week["label"].sum())


def test_the_same_seed_gives_the_same_interval_and_another_one_nearly_so() -> None:
    week = scored_week()
    first, again, other = (figure_intervals(week, 20, seed=seed)["average_precision"] for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert (other.low, other.high) == pytest.approx((first.low, first.high), abs=0.02)


def test_the_order_of_rows_does_not_matter() -> None:
    week = scored_week()
    shuffled = week.sample(fraction=1, shuffle=True, seed=3)
    for name, found in figure_intervals(week, 20, replicates=20).items():
        turned = figure_intervals(shuffled, 20, replicates=20)[name]
        assert (turned.value, turned.low, turned.high) == pytest.approx((found.value, found.low, found.high))


def test_copies_of_a_clusters_rows_make_no_interval_narrower() -> None:
    alone = scored_week().with_columns(cluster=pl.int_range(pl.len()))

    def width(frame: pl.DataFrame) -> float:
        found = figure_intervals(frame, 20)["average_precision"]
        return found.high - found.low

    assert width(pl.concat([alone] * 4)) == pytest.approx(width(alone), rel=0.15)


def test_a_better_challenger_is_told_from_an_equal_one() -> None:
    random = np.random.default_rng(8)
    weeks = [scored_week(seed=seed) for seed in range(4)]
    worse = [week["score"] + pl.Series(random.normal(0, 0.2, week.height)) for week in weeks]
    better = difference_interval([paired(week, score) for week, score in zip(weeks, worse, strict=True)])
    assert better.low > 0
    equal = difference_interval([paired(week, week["score"]) for week in weeks])
    assert (equal.value, equal.low, equal.high) == (0, 0, 0)


def test_a_comparison_without_weeks_or_without_positives_is_refused() -> None:
    with pytest.raises(Refused, match="at least one week"):
        difference_interval([])
    negative = scored_week().filter(~pl.col("label"))
    with pytest.raises(Refused, match="none of one of them"):
        difference_interval([paired(negative, negative["score"])])
