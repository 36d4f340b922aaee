"""The fast tier of evaluation for boosted trees: how a fit goes, told by two figures while it goes on.

A fit is watched on a small stratified sample of the rows that it is fitted on. That tells whether it learns, at a
hundredth of what it costs, and not how good it is: that is told by the test of the week that the model serves.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from my_platform.errors import Refused
from my_platform.learning.weighted import average_precision, log_loss

_OF_EACH_CLASS = {True: 1_000, False: 4_000}
_LOOKS = 8
# A fit whose log loss is above that of one probability for all rows by more than this share has diverged.
_WORSE = 1.01
_DIGITS = 6
# Other kinds of boosting (dart, rf) change what earlier trees count when they add one.
_BOOSTING, _SUMS = ("boosting", "boosting_type", "boost"), ("gbdt", "gbrt", "goss")


class Watch:
    """What is seen of one fit.

    Attributes:
        history: of each look, the number of trees (``round``), and ``sample_log_loss`` and
            ``sample_average_precision``: of the sample, each row weighted by how many of its class it stands for.
    """

    def __init__(self, features: pl.DataFrame, labels: ArrayLike, seed: int) -> None:
        """Take the sample: at most 1,000 rows that are labelled 1 and 4,000 others.

        Args:
            features: rows that are fitted on.
            labels: 0 or 1 of each.
        """
        known = np.asarray(labels).astype(np.bool_)
        chance = np.random.default_rng([seed, 5])
        taken, weights = [], []
        for label, most in _OF_EACH_CLASS.items():
            rows = np.flatnonzero(known == label)
            some = np.sort(chance.choice(rows, min(most, len(rows)), replace=False))
            taken.append(some)
            weights.append(np.full(len(some), len(rows) / max(len(some), 1)))
        order = np.concatenate(taken)
        self.rows = features[order]
        self._labels, self._weights = known[order], np.concatenate(weights)
        self._raw = np.zeros(len(order))
        self._trees = 0
        self.history: list[dict[str, float]] = []

    def callback(self, matrix: NDArray[Any], rounds: int, threads: int) -> Callable[[Any], None]:
        """For ``lightgbm.train``: looks eight times at the most, the last time when all trees are there.

        Args:
            matrix: of `rows`, as LightGBM takes it.

        Raises:
            Refused: by the callback, where the fit diverges.
        """
        at = _looks(rounds)

        def look(state: Any) -> None:
            trees = state.iteration + 1
            if trees in at:
                self._look(state.model, matrix, trees, threads, state.params)

        return look

    def look_back(
        self, text: str, matrix: NDArray[Any], rounds: int, threads: int, given: Mapping[str, Any]
    ) -> None:
        """The same looks at a fit that has ended, by LightGBM's text of it.

        Raises:
            Refused: it had diverged.
        """
        import lightgbm as lgb

        booster = lgb.Booster(model_str=text)
        for trees in _looks(rounds):
            self._look(booster, matrix, trees, threads, given)

    def _look(
        self, booster: Any, matrix: NDArray[Any], trees: int, threads: int, given: Mapping[str, Any]
    ) -> None:
        """Add what the trees since the last look say, and judge their sum."""
        boosting = next((given[name] for name in _BOOSTING if name in given), "gbdt")
        if boosting not in _SUMS:
            self._raw, self._trees = np.zeros(len(self._labels)), 0
        self._raw = self._raw + booster.predict(
            matrix,
            start_iteration=self._trees,
            num_iteration=trees - self._trees,
            raw_score=True,
            num_threads=threads,
        )
        self._trees = trees
        with np.errstate(over="ignore"):
            found = 1 / (1 + np.exp(-float(given.get("sigmoid", 1.0)) * self._raw))
        judged = found, self._labels, self._weights
        loss, rate = log_loss(*judged), np.average(self._labels, weights=self._weights)
        if not loss <= _WORSE * log_loss(np.full(len(found), rate), self._labels, self._weights):
            raise self._diverged(trees, loss, given)
        self.history.append(
            {
                "round": trees,
                "sample_log_loss": round(loss, _DIGITS),
                "sample_average_precision": round(average_precision(*judged), _DIGITS),
            }
        )

    def _diverged(self, trees: int, loss: float, given: Mapping[str, Any]) -> Refused:
        return Refused(
            f"the fit diverged: after {trees} trees the log loss was {loss:.5f} on {len(self._labels)} of the rows that "
            f"it is fitted on, and is lower where every row gets the same probability. Its learning rate is "
            f"{given.get('learning_rate', 0.1)}; lower it, or look for features that grew without bound"
        )


def _looks(rounds: int) -> list[int]:
    """After how many trees a fit is looked at."""
    return sorted({math.ceil(rounds * look / _LOOKS) for look in range(1, _LOOKS + 1)})
