"""Small training sets and recipes for the tests of nets. Imports numpy and the nets alone, as a GPU machine does."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from my_platform.learning.nets.fit import Recipe, TrainingSet
from my_platform.learning.nets.tabm import Architecture
from my_platform.learning.nets.training import Training

NAMES = ("amount", "risk", "state", "rare", "noise")
SMALL = Recipe(
    Architecture(members=4, embedding=4, width=16, blocks=2, dropout=0.0),
    Training(epochs=6, batch_rows=128, learning_rate=0.02, parts=2, averaging=0.9, bins=8, keep=4),
    seed=1,
)


def changed(**training: object) -> Recipe:
    """The small recipe with other training."""
    return replace(SMALL, training=replace(SMALL.training, **training))


def training_set(rows: int = 3_000, days: int = 20) -> TrainingSet:
    """Rows of which amount, risk and state tell the label; risk is often missing and rare is mostly 0."""
    random = np.random.default_rng(3)
    features = random.normal(size=(rows, len(NAMES)))
    features[:, 1] = np.where(random.random(rows) < 0.3, np.nan, features[:, 1])
    features[:, 2] = features[:, 2] > 0.5
    features[:, 3] = np.where(random.random(rows) < 0.95, 0.0, random.integers(1, 9, rows))
    odds = 1.5 * features[:, 0] + np.nan_to_num(features[:, 1], nan=0.5) + 1.5 * features[:, 2] - 4
    labels = random.random(rows) < 1 / (1 + np.exp(-odds))
    return TrainingSet(features, labels, np.sort(random.integers(0, days, rows)), NAMES)


def average_precision(labels: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Precision summed over the steps of recall; scores must differ."""
    hits = labels[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())
