import math

import numpy as np
import polars as pl
import pytest

from my_platform.errors import Refused
from my_platform.learning.fitting import feature_importance, fit_lightgbm, predict_lightgbm

PARAMETERS = {"learning_rate": 0.2, "num_leaves": 7, "min_data_in_leaf": 20, "feature_fraction": 0.7}


def training_frame(rows: int = 3_000) -> tuple[pl.DataFrame, pl.Series]:
    """Features of which amount and risk tell the label, and noise does not."""
    random = np.random.default_rng(3)
    amount, risk, noise = random.gamma(2, 30, rows), random.random(rows), random.random(rows)
    features = pl.DataFrame({"amount": amount, "risk": risk, "noise": noise})
    label = random.random(rows) < 1 / (1 + np.exp(6 - amount / 40 - 4 * risk))
    return features, pl.Series(label)


def fitted(seed: int = 1, num_threads: int = 1) -> str:
    features, labels = training_frame()
    return fit_lightgbm(features, labels, PARAMETERS, rounds=10, seed=seed, num_threads=num_threads)


def test_the_same_arguments_give_the_same_text() -> None:
    assert fitted() == fitted()


def test_the_text_does_not_depend_on_the_number_of_threads() -> None:
    assert fitted(num_threads=2) == fitted(num_threads=1)


def test_another_seed_gives_another_model() -> None:
    assert fitted(seed=2) != fitted(seed=1)


def test_predictions_are_probabilities_that_rank_the_label() -> None:
    features, labels = training_frame()
    score = predict_lightgbm(fitted(), features)
    assert score.shape == (features.height,)
    assert ((score > 0) & (score < 1)).all()
    assert score[labels.to_numpy()].mean() > 1.5 * score[~labels.to_numpy()].mean()


def test_a_row_is_scored_alike_alone_and_among_others() -> None:
    features, _ = training_frame()
    assert predict_lightgbm(fitted(), features[7:8])[0] == predict_lightgbm(fitted(), features)[7]
    assert predict_lightgbm(fitted(), features.clear()).shape == (0,)


def test_nulls_integers_and_flags_are_features_too() -> None:
    features, labels = training_frame()
    mixed = features.with_columns(
        pl.col("amount").cast(pl.Int64),
        pl.col("noise") > 0.5,
        risk=pl.when(pl.col("noise") > 0.1).then("risk"),
    )
    text = fit_lightgbm(mixed, labels, PARAMETERS, rounds=3, seed=1, num_threads=1)
    assert np.isfinite(predict_lightgbm(text, mixed)).all()


def test_single_precision_features_give_a_model_of_the_same_features() -> None:
    features, labels = training_frame()
    single = features.cast(pl.Float32)
    text = fit_lightgbm(single, labels, PARAMETERS, rounds=3, seed=1, num_threads=1)
    assert predict_lightgbm(text, single).shape == (features.height,)


def test_reordered_columns_are_refused() -> None:
    features, _ = training_frame()
    with pytest.raises(Refused, match="order"):
        predict_lightgbm(fitted(), features.select("risk", "amount", "noise"))


def test_missing_and_unknown_columns_are_named() -> None:
    features, _ = training_frame()
    with pytest.raises(Refused, match=r"\['noise'\] missing and \['other'\] too many"):
        predict_lightgbm(fitted(), features.rename({"noise": "other"}))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1.0, 0.0, math.nan], "1 missing in 3"),
        ([1, 0, None], "1 missing in 3"),
        ([1, 1, 1], r"\{1.0: 3\}"),
        ([False, False, False], r"\{0.0: 3\}"),
        ([0, 1, 2], r"2.0: 1"),
        ([0, 1], "each of 3 rows"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused_with_what_was_found(
    labels: list[float | None], message: str
) -> None:
    features = pl.DataFrame({"amount": [1.0, 2.0, 3.0]})
    with pytest.raises(Refused, match=message):
        fit_lightgbm(features, pl.Series(labels), PARAMETERS, rounds=1, seed=1, num_threads=1)


def test_text_features_are_refused_by_name() -> None:
    with pytest.raises(Refused, match=r"\{'city': 'String'\}"):
        fit_lightgbm(pl.DataFrame({"city": ["a", "b"]}), [0, 1], {}, rounds=1, seed=1, num_threads=1)


def test_parameters_that_the_platform_sets_are_refused() -> None:
    features, labels = training_frame(100)
    given = {**PARAMETERS, "seed": 4, "num_threads": 8}
    with pytest.raises(Refused, match=r"\['num_threads', 'seed'\]"):
        fit_lightgbm(features, labels, given, rounds=1, seed=1, num_threads=1)


def test_the_gain_is_highest_where_the_label_comes_from() -> None:
    importance = feature_importance(fitted())
    assert importance.columns == ["feature", "gain", "splits"]
    assert set(importance["feature"][:2]) == {"amount", "risk"}
    assert importance["gain"].is_sorted(descending=True)
