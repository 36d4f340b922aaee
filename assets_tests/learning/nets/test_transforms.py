import json

import numpy as np
import pytest

from assets_tests.learning.nets.rows import NAMES, training_set
from my_platform.errors import Refused
from my_platform.learning.nets.transforms import InputTransform, fit_transform

BINS = 16


@pytest.fixture(scope="module")
def fitted() -> InputTransform:
    return fit_transform(training_set().features, NAMES, BINS)


def test_a_feature_that_varies_becomes_normal(fitted: InputTransform) -> None:
    skewed = np.exp(np.random.default_rng(0).normal(size=(5_000, 1)))
    scores = fit_transform(skewed, ["x"], BINS).apply(skewed)
    assert abs(float(scores.mean())) < 0.01
    assert abs(float(scores.std()) - 1) < 0.02


def test_a_row_is_transformed_alike_alone_and_among_others(fitted: InputTransform) -> None:
    features = training_set().features
    whole = fitted.apply(features)
    for row in (0, 17, 2_999):
        assert (fitted.apply(features[row : row + 1])[0] == whole[row]).all()


def test_order_is_kept(fitted: InputTransform) -> None:
    values = np.linspace(-3, 3, 500)
    features = np.zeros((500, len(NAMES)))
    features[:, 0] = values
    assert (np.diff(fitted.apply(features)[:, 0]) >= 0).all()


def test_a_missing_value_gets_the_median_and_raises_its_flag(fitted: InputTransform) -> None:
    features = training_set().features
    missing = np.isnan(features[:, 1])
    found = fitted.apply(features)
    assert fitted.flagged == (1,)
    assert found.shape == (3_000, len(NAMES) + 1)
    assert (found[missing, 1] == 0).all()
    assert (found[:, -1] == missing).all()


def test_a_value_beyond_those_seen_counts_as_the_nearest_that_was(fitted: InputTransform) -> None:
    extremes = np.array([[-1e9] * len(NAMES), [1e9] * len(NAMES)])
    found = fitted.apply(extremes)
    for column in range(len(NAMES)):
        assert found[0, column] == np.float32(fitted.scores[column][0])
        assert found[1, column] == np.float32(fitted.scores[column][-1])


def test_a_value_that_most_rows_share_leaves_the_bins_to_the_others(fitted: InputTransform) -> None:
    rare = NAMES.index("rare")
    assert fitted.values[rare] == tuple(float(value) for value in range(9))
    assert len(fitted.edges[rare]) == 9


def test_edges_are_rising_and_no_more_than_asked_for(fitted: InputTransform) -> None:
    for edges in fitted.edges:
        assert (np.diff(edges) > 0).all()
        assert 2 <= len(edges) <= BINS + 1


@pytest.mark.parametrize("column", [np.full(50, 7.0), np.full(50, np.nan)])
def test_a_feature_without_two_values_says_nothing(column: np.ndarray) -> None:
    transform = fit_transform(column[:, None], ["x"], BINS)
    assert (transform.apply(np.array([[7.0], [8.0], [np.nan]]))[:, 0] == 0).all()


def test_it_comes_back_from_json_to_the_bit(fitted: InputTransform) -> None:
    assert InputTransform.from_json(json.loads(json.dumps(fitted.as_json()))) == fitted


def test_an_infinite_value_is_refused_by_the_name_of_its_feature() -> None:
    features = training_set().features.copy()
    features[5, 4] = np.inf
    with pytest.raises(Refused, match="infinite values in \\['noise'\\]"):
        fit_transform(features, NAMES, BINS)


def test_another_number_of_columns_is_refused(fitted: InputTransform) -> None:
    with pytest.raises(Refused, match="rows of the 5 features"):
        fitted.apply(np.zeros((3, 4)))
