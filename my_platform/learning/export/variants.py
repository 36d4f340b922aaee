"""Smaller and faster variants of a fitted model, each as ONNX with what it was made of."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from my_platform.learning.export.net import int8_onnx, tabm_onnx
from my_platform.learning.export.scoring import ROWS_AT_ONCE, as_matrix, load_onnx
from my_platform.learning.export.trees import lightgbm_onnx
from my_platform.learning.fitting import distil_lightgbm, first_trees

LIGHTGBM, TABM, BLEND = "lightgbm", "tabm", "blend"


@dataclass(frozen=True)
class Variant:
    """A model of a set of variants.

    Attributes:
        files: ONNX models whose mean it is, by name.
        teacher: the model that it is to replace; empty of one that it is compared with.
        how: how it was made, in words.
        rows_at_once: rows that may be scored together.
    """

    name: str
    files: Mapping[str, bytes]
    teacher: str
    how: str
    rows_at_once: int = ROWS_AT_ONCE

    def as_json(self) -> dict[str, Any]:
        return {
            "teacher": self.teacher,
            "how": self.how,
            "rows_at_once": self.rows_at_once,
            "bytes": sum(map(len, self.files.values())),
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()},
        }


@dataclass(frozen=True)
class TrainingRows:
    """What variants are made by: the features and labels of a training set, and which rows are the latest."""

    features: pl.DataFrame
    labels: NDArray[np.bool_]
    latest: NDArray[np.bool_]


def variants_of(
    model_text: str,
    net: Mapping[str, bytes] | None,
    rows: TrainingRows,
    recipe: Mapping[str, Any],
    threads: int,
) -> list[Variant]:
    """The models themselves, their blend, and smaller variants of each.

    Args:
        model_text: of a LightGBM model.
        net: files of a TabM net, where there is one.
        recipe: `distilled` (LightGBM's parameters), `rounds`, `trees`, `members` and `seed`.
    """

    def distilled(teacher: str, scores: NDArray[np.float64]) -> Variant:
        text = distil_lightgbm(
            rows.features, scores, recipe["distilled"], recipe["rounds"], recipe["seed"], threads
        )
        how = f"{recipe['rounds']} trees fitted on what {teacher} says of the training set"
        return _one(f"{teacher}_distilled", lightgbm_onnx(text), teacher, how)

    trees = _one(LIGHTGBM, lightgbm_onnx(model_text), "", "the week's LightGBM model")
    of_trees = load_onnx(trees.files[trees.name], rows.features.columns)(rows.features)
    pruned = lightgbm_onnx(first_trees(model_text, recipe["trees"]))
    found = [
        trees,
        _one(f"{LIGHTGBM}_pruned", pruned, LIGHTGBM, f"its first {recipe['trees']} trees"),
        distilled(LIGHTGBM, of_trees),
    ]
    if net is None:
        return found
    whole = _one(TABM, tabm_onnx(net), "", "the week's TabM net")
    of_net = load_onnx(whole.files[TABM], rows.features.columns)(rows.features)
    blended = {**trees.files, **whole.files}
    return [
        *found,
        whole,
        _one(
            f"{TABM}_pruned",
            _fewer_members(net, rows, recipe["members"]),
            TABM,
            f"{recipe['members']} submodels",
        ),
        _one(f"{TABM}_int8", int8_onnx(whole.files[TABM]), TABM, "its products in int8", rows_at_once=1),
        distilled(TABM, of_net),
        Variant(BLEND, blended, "", f"the mean of {LIGHTGBM} and {TABM}"),
        distilled(BLEND, (of_trees + of_net) / 2),
    ]


def score_variant(
    files: Mapping[str, bytes], names: Sequence[str], features: pl.DataFrame, rows_at_once: int
) -> NDArray[np.float64]:
    """The mean probability of the named models for each row."""
    scores = [load_onnx(files[name], features.columns, rows_at_once)(features) for name in names]
    return np.mean(scores, axis=0)


def _one(name: str, model: bytes, teacher: str, how: str, rows_at_once: int = ROWS_AT_ONCE) -> Variant:
    return Variant(name, {name: model}, teacher, how, rows_at_once)


def _fewer_members(net: Mapping[str, bytes], rows: TrainingRows, members: int) -> bytes:
    """The net with the submodels that are best together on the latest rows, most of which it was not fitted on."""
    from my_platform.learning.nets.compute import Compute
    from my_platform.learning.nets.net import Net, best_members, predict_members, prune

    whole = Net.of_files(net)
    features = rows.features.filter(pl.Series(rows.latest))
    labels = rows.labels[rows.latest]
    found = predict_members(whole, as_matrix(features), Compute())
    return tabm_onnx(prune(whole, best_members(found, labels, np.ones(len(labels)), members)).files())
