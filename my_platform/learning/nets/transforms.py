"""What a net's inputs go through: missing values filled in and flagged, every feature made normal by its quantiles.

All of it is fitted on the training rows alone and kept as knots, so that applying it is linear interpolation and
gives the same value for a row alone as for the row among others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from my_platform.errors import Refused

Floats = NDArray[np.float32] | NDArray[np.float64]

_KNOTS = 256
# A flag that hardly any row raises is noise.
_FLAGGED_SHARE = 1e-3


@dataclass(frozen=True)
class InputTransform:
    """A fitted transform: per feature the knots (value, normal score) and the edges of its bins, as scores.

    Attributes:
        names: the features, in the order of the columns.
        values, scores: the knots of each feature, both rising.
        edges: bin edges of each feature in scores, rising, for piecewise-linear embeddings.
        flagged: positions of the features that get a column telling where they are missing.
    """

    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    scores: tuple[tuple[float, ...], ...]
    edges: tuple[tuple[float, ...], ...]
    flagged: tuple[int, ...]

    def apply(self, features: Floats) -> NDArray[np.float32]:
        """Scores of the features (rows × features), then a 0/1 column for each flagged one, as float32.

        A missing value (NaN) gets the score 0, the median; one beyond those seen when fitting gets the score
        of the nearest that was seen.

        Raises:
            Refused: the number of columns is not that of the features.
        """
        if features.ndim != 2 or features.shape[1] != len(self.names):
            raise Refused(
                f"expected rows of the {len(self.names)} features that the net was fitted on, found an array of "
                f"shape {features.shape}"
            )
        out = np.empty((len(features), len(self.names) + len(self.flagged)), dtype=np.float32)
        for column, (values, scores) in enumerate(zip(self.values, self.scores, strict=True)):
            out[:, column] = np.interp(features[:, column].astype(np.float64), values, scores)
        scored = out[:, : len(self.names)]
        scored[np.isnan(scored)] = 0.0
        for position, column in enumerate(self.flagged, start=len(self.names)):
            out[:, position] = np.isnan(features[:, column])
        return out

    def as_json(self) -> dict[str, Any]:
        return {
            "names": list(self.names),
            "values": [list(found) for found in self.values],
            "scores": [list(found) for found in self.scores],
            "edges": [list(found) for found in self.edges],
            "flagged": list(self.flagged),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "InputTransform":
        def lines(name: str) -> tuple[tuple[float, ...], ...]:
            return tuple(tuple(map(float, line)) for line in found[name])

        return cls(
            tuple(found["names"]),
            lines("values"),
            lines("scores"),
            lines("edges"),
            tuple(map(int, found["flagged"])),
        )


def fit_transform(features: Floats, names: Sequence[str], bins: int) -> InputTransform:
    """Fit on training rows (rows × features, NaN where missing), with at most `bins` bins a feature.

    A value that many rows share counts as one bin's worth of rows at most: of a feature that is 0 in most rows
    the bins are spent on the others.

    Raises:
        Refused: there is no row, an infinite value, or another number of columns than of names.
    """
    if features.ndim != 2 or not len(features) or features.shape[1] != len(names):
        raise Refused(
            f"expected rows of the {len(names)} features {list(names)}, found an array of shape {features.shape}"
        )
    infinite = [name for column, name in enumerate(names) if np.isinf(features[:, column]).any()]
    if infinite:
        raise Refused(f"expected finite features or missing ones, found infinite values in {infinite}")
    fitted = [_fit_one(features[:, column].astype(np.float64), bins) for column in range(len(names))]
    flagged = [
        column for column in range(len(names)) if np.isnan(features[:, column]).mean() >= _FLAGGED_SHARE
    ]
    values, scores, edges = zip(*fitted, strict=True)
    return InputTransform(tuple(names), values, scores, edges, tuple(flagged))


def _fit_one(
    feature: NDArray[np.float64], bins: int
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Knots and edges of one feature."""
    values, counts = np.unique(feature[~np.isnan(feature)], return_counts=True)
    if len(values) < 2:
        # Constant or always missing: its score is 0 for every row.
        return (float(values[0]) if len(values) else 0.0,), (0.0,), (-1.0, 1.0)
    weights = np.minimum(counts, max(counts.sum() / bins, 1.0))
    ranks = (np.cumsum(weights) - weights / 2) / weights.sum()
    knots = _spread(ranks, _KNOTS)
    normal = NormalDist()
    scores = [normal.inv_cdf(rank) for rank in ranks[knots]]
    edges = np.asarray(scores)[_spread(ranks[knots], bins + 1)]
    return tuple(values[knots].tolist()), tuple(scores), tuple(edges.tolist())


def _spread(ranks: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """Positions of at most `most` ranks spread evenly, the first and the last among them."""
    if len(ranks) <= most:
        return np.arange(len(ranks))
    wanted = np.linspace(ranks[0], ranks[-1], most)
    return np.unique(np.searchsorted(ranks, wanted).clip(0, len(ranks) - 1))
