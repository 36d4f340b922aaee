"""Boosted trees as ONNX take the branches that LightGBM takes."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from my_platform.errors import Refused
from my_platform.learning.export.scoring import OnnxModel, load_onnx
from my_platform.learning.export.trees import lightgbm_onnx
from my_platform.learning.fitting import fit_lightgbm, predict_lightgbm

NAMES = ("amount", "count", "often_missing", "tiny")
MIXED = {"learning_rate": 0.3, "num_leaves": 15, "min_data_in_leaf": 3}


def features(seed: int, rows: int = 400) -> pl.DataFrame:
    """Prices, counts, a feature that is often missing, and one whose values lie closer than float32 tells apart."""
    random = np.random.default_rng(seed)
    found = pl.DataFrame(
        {
            "amount": random.gamma(2, 30, rows).round(2),
            "count": random.integers(0, 6, rows),
            "often_missing": random.normal(size=rows),
            "tiny": 1 + random.integers(0, 50, rows) * 1e-9,
        }
    )
    return found.with_columns(
        often_missing=pl.when(pl.Series(random.random(rows) > 0.4)).then("often_missing")
    )


def model_text(seed: int, rounds: int = 12) -> str:
    rows = features(seed)
    odds = rows["amount"] / 40 + rows["count"] + (rows["tiny"] - 1) * 1e8 - 7
    random = np.random.default_rng(seed + 1)
    labels = random.random(rows.height) < 1 / (1 + np.exp(-odds.to_numpy()))
    labels[:2] = (False, True)
    return fit_lightgbm(rows, labels, MIXED, rounds=rounds, seed=seed % 1000, num_threads=1)


def thresholds(text: str) -> list[float]:
    lines = [line.partition("=")[2] for line in text.splitlines() if line.startswith("threshold=")]
    return sorted({float(value) for line in lines for value in line.split()})


def frame(rows: NDArray[np.float64]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=list(NAMES), orient="row").fill_nan(None)


@pytest.fixture(scope="module")
def model() -> OnnxModel:
    return load_onnx(lightgbm_onnx(model_text(1)), NAMES)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1 << 30), data=st.data())
def test_random_trees_give_the_same_probabilities(seed: int, data: st.DataObject) -> None:
    text = model_text(seed)
    cuts = thresholds(text)
    # On a threshold, on the double before and after it, missing, and anywhere.
    near = [*cuts, *np.nextafter(cuts, -np.inf), *np.nextafter(cuts, np.inf), math.nan, 0.0, -0.0]
    value = st.one_of(st.sampled_from(near), st.floats(-1e300, 1e300))
    rows = np.array(
        data.draw(st.lists(st.lists(value, min_size=4, max_size=4), min_size=1, max_size=40)),
        dtype=np.float64,
    )

    found = load_onnx(lightgbm_onnx(text), NAMES).rows(rows)

    assert np.abs(found - predict_lightgbm(text, frame(rows))).max() <= 1e-12


def test_values_that_float32_cannot_tell_apart_go_their_own_ways(model: OnnxModel) -> None:
    rows = np.tile([50.0, 2.0, 0.0, 1.0], (2, 1))
    rows[1, 3] += 49e-9
    assert np.float32(rows[0, 3]) == np.float32(rows[1, 3])
    assert model.rows(rows)[0] != model.rows(rows)[1]


def test_the_same_text_gives_the_same_bytes() -> None:
    assert lightgbm_onnx(model_text(4)) == lightgbm_onnx(model_text(4))


def test_trees_without_a_split_are_exported_too() -> None:
    rows = features(5).with_columns(pl.all().fill_null(0) * 0)
    text = fit_lightgbm(rows, [0, 1] * 200, MIXED, rounds=3, seed=1, num_threads=1)
    found = load_onnx(lightgbm_onnx(text), NAMES)(rows)
    assert found == pytest.approx(predict_lightgbm(text, rows))


def test_a_row_is_scored_alike_alone_and_among_others(model: OnnxModel) -> None:
    rows = features(2)
    together = model(pl.concat([rows] * 12))
    assert model(rows[7:8])[0] == together[7] == together[-rows.height + 7]
    assert model(rows.clear()).shape == (0,)


def test_categorical_splits_are_refused() -> None:
    import lightgbm as lgb

    kinds = np.tile(np.arange(8.0), 50)[:, None]
    data = lgb.Dataset(kinds, label=kinds[:, 0] % 2, categorical_feature=[0])
    settings = {"objective": "binary", "verbosity": -1, "min_data_in_leaf": 1, "min_data_per_group": 1}
    text = lgb.train(settings, data, num_boost_round=2).model_to_string()
    with pytest.raises(Refused, match="without categorical features"):
        lightgbm_onnx(text)


def test_trees_of_another_objective_are_refused() -> None:
    text = model_text(6).replace("objective=binary sigmoid:1", "objective=regression")
    with pytest.raises(Refused, match="found regression"):
        lightgbm_onnx(text)


def test_infinite_values_are_refused_by_name(model: OnnxModel) -> None:
    rows = features(3, rows=3).with_columns(amount=pl.Series([1.0, math.inf, 2.0]))
    with pytest.raises(Refused, match=r"infinite values in \['amount'\]"):
        model(rows)


def test_reordered_missing_and_text_columns_are_refused(model: OnnxModel) -> None:
    rows = features(3, rows=3)
    with pytest.raises(Refused, match="in the order"):
        model(rows.select(reversed(NAMES)))
    with pytest.raises(Refused, match=r"\['tiny'\] missing and \['other'\] too many"):
        model(rows.rename({"tiny": "other"}))
    with pytest.raises(Refused, match=r"\{'amount': 'String'\}"):
        model(rows.cast({"amount": pl.String}))
    with pytest.raises(Refused, match=r"shape \(3, 3\)"):
        model.rows(np.zeros((3, 3)))


def test_a_model_of_other_features_is_not_loaded() -> None:
    with pytest.raises(Refused, match="of 3 features"):
        load_onnx(lightgbm_onnx(model_text(1)), NAMES[:3])
