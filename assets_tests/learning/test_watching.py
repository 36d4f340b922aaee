"""What is seen of a fit while it goes on."""

from typing import Any

import lightgbm as lgb
import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, log_loss

from assets_tests.learning.test_fitting import PARAMETERS, training_frame
from my_platform.errors import Refused
from my_platform.learning.fitting import first_trees, fit_lightgbm, predict_lightgbm
from my_platform.learning.watching import Watch

ROUNDS = 20


def watched(
    rounds: int = ROUNDS, rows: int = 3_000, threads: int = 1, **parameters: Any
) -> tuple[str, Watch]:
    features, labels = training_frame(rows)
    watch = Watch(features, labels, 1)
    text = fit_lightgbm(features, labels, {**PARAMETERS, **parameters}, rounds, 1, threads, watch)
    return text, watch


def test_who_looks_on_changes_nothing() -> None:
    features, labels = training_frame()
    assert watched()[0] == fit_lightgbm(features, labels, PARAMETERS, ROUNDS, 1, 1)


@pytest.mark.parametrize("boosting", ["gbdt", "goss", "dart"])
def test_the_figures_are_those_of_the_trees_so_far(boosting: str) -> None:
    text, watch = watched(boosting=boosting)
    features, labels = training_frame()
    # Of so few rows all are in the sample, so that it is they whose figures are told; dart changes earlier trees later.
    rounds = [line["round"] for line in watch.history] if boosting != "dart" else [ROUNDS]
    assert rounds[-1] == ROUNDS
    for trees, line in zip(rounds, watch.history[-len(rounds) :], strict=True):
        found = predict_lightgbm(first_trees(text, int(trees)), features)
        assert line["sample_log_loss"] == pytest.approx(log_loss(labels, found), abs=1e-6)
        precision = average_precision_score(labels, found)
        assert line["sample_average_precision"] == pytest.approx(precision, abs=1e-6)


def test_a_fit_is_looked_at_eight_times_at_the_most_and_last_at_its_end() -> None:
    assert [line["round"] for line in watched(rounds=100)[1].history] == [13, 25, 38, 50, 63, 75, 88, 100]
    assert [line["round"] for line in watched(rounds=3)[1].history] == [1, 2, 3]


def test_the_number_of_threads_changes_no_figure() -> None:
    assert watched(threads=2)[1].history == watched(threads=1)[1].history


def test_the_sample_is_small_and_stands_for_all_rows() -> None:
    text, watch = watched(rows=40_000)
    assert watch.rows.height == 5_000
    features, labels = training_frame(40_000)
    found = predict_lightgbm(text, features)
    assert watch.history[-1]["sample_log_loss"] == pytest.approx(log_loss(labels, found), rel=0.05)
    precision = average_precision_score(labels, found)
    assert watch.history[-1]["sample_average_precision"] == pytest.approx(precision, rel=0.1)


def test_a_fit_that_has_ended_is_seen_as_while_it_went_on() -> None:
    text, watch = watched()
    features, labels = training_frame()
    later = Watch(features, labels, 1)
    later.look_back(text, later.rows.to_numpy(), ROUNDS, 1, PARAMETERS)
    assert later.history == watch.history


def test_a_fit_that_diverges_is_stopped_where_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = []
    update = lgb.Booster.update
    monkeypatch.setattr(lgb.Booster, "update", lambda self, **more: trees.append(1) or update(self, **more))
    with pytest.raises(Refused, match=r"the fit diverged: after 13 trees .* learning rate is 40; lower it"):
        watched(rounds=100, learning_rate=40)
    assert len(trees) == 13


def test_features_that_tell_nothing_are_no_divergence() -> None:
    features = pl.DataFrame({"same": np.zeros(500)})
    watch = Watch(features, [0, 1] * 250, 1)
    fit_lightgbm(features, [0, 1] * 250, {}, 10, 1, 1, watch)
    assert watch.history[-1]["sample_log_loss"] == pytest.approx(np.log(2), abs=1e-6)


def test_rows_that_cannot_be_fitted_on_are_refused_as_if_nobody_looked_on() -> None:
    features = pl.DataFrame({"amount": np.zeros(0)})
    with pytest.raises(Refused, match="expected rows of both classes"):
        fit_lightgbm(features, [], {}, 10, 1, 1, Watch(features, [], 1))
