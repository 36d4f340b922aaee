"""What an export that differs from its model is told."""

import datetime as dt
import math

import numpy as np
import polars as pl
import pytest

from assets_tests.learning.export.test_trees import NAMES, features, model_text
from my_platform.errors import Refused
from my_platform.learning.export.parity import compare_scores, exported_model
from my_platform.learning.export.trees import lightgbm_onnx
from my_platform.learning.fitting import load_lightgbm
from my_platform.storage.lake import json_in


def sample() -> pl.DataFrame:
    rows = features(1, rows=300)
    return rows.with_columns(day=pl.lit(dt.date(2026, 1, 7)), key=pl.int_range(300))


def test_decisions_on_either_side_of_the_threshold_are_counted() -> None:
    found = compare_scores(np.array([0.2, 0.5, 0.8]), np.array([0.2, 0.4999, 0.8]), threshold=0.5)
    assert (found.rows, found.decisions_flipped) == (3, 1)
    assert found.largest_difference == pytest.approx(1e-4)


def test_a_score_that_is_no_number_never_agrees() -> None:
    found = compare_scores(np.array([0.2, math.nan]), np.array([0.2, 0.3]), threshold=0.5)
    assert not found.holds


def test_an_export_of_another_model_is_refused_with_its_check() -> None:
    other = lightgbm_onnx(model_text(2))
    with pytest.raises(Refused, match="the ONNX model differs from its own by") as refused:
        exported_model(other, load_lightgbm(model_text(1)), sample(), NAMES, 10, {})
    (check,) = refused.value.checks
    assert (check.check, check.passed) == ("onnx_parity", False)


def test_what_is_known_of_an_export_stands_beside_it() -> None:
    text = model_text(1)
    made = exported_model(lightgbm_onnx(text), load_lightgbm(text), sample(), NAMES, 10, {"week": "w"})
    about = json_in(made.table, "about.json")
    assert about["features"] == list(NAMES)
    assert about["week"] == "w"
    assert about["parity"]["rows"] == 300
    assert about["parity"]["rows_with_a_missing_feature"] == 20 * len(NAMES)
    assert about["parity"]["decisions_flipped"] == 0
    assert about["opsets"] == {"ai.onnx": 20, "ai.onnx.ml": 5}
