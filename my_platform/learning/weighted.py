"""Figures of a score on a sample, whose rows count as much as what they stand for; numpy alone."""

import numpy as np
from numpy.typing import NDArray


def average_precision(
    probability: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.float64]
) -> float:
    """Precision summed over the steps of recall, of rows that count as much as their weights say.

    Rows of one probability are found together. There is a row labelled 1.
    """
    order = np.argsort(-probability, kind="stable")
    found = np.cumsum((weights * labels)[order])
    ends = np.flatnonzero(np.append(np.diff(probability[order]) != 0, True))
    precision = found[ends] / np.cumsum(weights[order])[ends]
    return float((np.diff(found[ends], prepend=0.0) * precision).sum() / found[-1])


def log_loss(
    probability: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.float64]
) -> float:
    """The mean of −log of the probability that was given to each row's label."""
    tiny = np.finfo(np.float32).tiny
    given = np.where(labels, probability, 1 - probability)
    return float(-(np.log(np.maximum(given, tiny)) * weights).sum() / weights.sum())
