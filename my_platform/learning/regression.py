"""How far forecasts of a number are off: figures with intervals, beside a naive forecast, and the measure of the gate.

Rows of one cluster (one meter) hang together, so intervals come of whole clusters that are drawn, as in
`learning.bootstrap`. Every figure is a function of sums by cluster: absolute and squared errors, forecasts and values.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from my_platform.errors import Refused
from my_platform.learning.bootstrap import REPLICATES, SEED, Counts, Interval, interval_of, resampled
from my_platform.learning.thresholds import OperatingCurve

_REPLICATES = 200
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AbsoluteError:
    """The mean absolute error, of which a better model saves a share; a label is a number."""

    name: str = "mean absolute error"
    short: str = "MAE"
    gained: str = "share of the mean absolute error saved"
    counted: str = "rows"

    def tells(self, rows: pl.DataFrame) -> bool:
        """Whether there is any row."""
        return not rows.is_empty()

    def value(self, rows: pl.DataFrame, score: str = "score") -> float:
        return float(_errors(rows, score).mean())

    def interval(self, rows: pl.DataFrame) -> Interval:
        clusters, index = _clusters([rows])
        errors = _summed(_errors(rows, "score"), index[0], clusters)
        sizes = _summed(np.ones(rows.height), index[0], clusters)
        return _drawn(
            lambda counts: float(counts @ errors) / float(counts @ sizes), clusters, _REPLICATES, SEED
        )

    def rank(self, value: float) -> float:
        return -value

    def gain(self, rows: pl.DataFrame, score: str, other: str) -> float:
        return _saved(self.value(rows, score), self.value(rows, other))

    def gain_interval(
        self, weeks: Sequence[pl.DataFrame], score: str, other: str, *, replicates: int, seed: int
    ) -> Interval:
        clusters, index = _clusters(weeks)
        pairs = [
            tuple(_summed(_errors(rows, name), at, clusters) for name in (score, other))
            for rows, at in zip(weeks, index, strict=True)
        ]

        def saved(counts: Counts) -> float:
            return float(np.mean([_saved(float(counts @ a), float(counts @ b)) for a, b in pairs]))

        return _drawn(saved, clusters, replicates, seed)

    def weight(self, rows: pl.DataFrame) -> int:
        return rows.height

    def totals(self, weeks: Iterable[pl.DataFrame]) -> tuple[float, float]:
        tested = list(weeks)
        return (
            math.fsum(value for rows in tested for value in rows["score"]),
            math.fsum(value for rows in tested for value in rows["label"]),
        )

    def said_of_totals(self, expected: float, observed: float) -> str:
        if not observed:
            return "nothing was measured in the weeks it was tested on"
        return (
            f"its forecasts sum to {expected:,.1f} where {observed:,.1f} was measured, {expected / observed:.3f} times as "
            "much"
        )

    def counts(self, rows: pl.DataFrame) -> Mapping[str, int]:
        return {}

    def least(self, promoted_on: float, drop: float) -> float:
        return promoted_on * (1 + drop)

    def is_worse(self, found: Interval, least: float) -> bool:
        return found.low > least

    def operating(
        self, tested: Sequence[pl.DataFrame], looked_at: int
    ) -> tuple[float | None, OperatingCurve | None]:
        """A number is no alarm: there is nothing to set a threshold for."""
        return None, None


ABSOLUTE_ERROR = AbsoluteError()


def forecast_intervals(
    rows: pl.DataFrame, *, replicates: int = REPLICATES, seed: int = SEED
) -> Mapping[str, Interval]:
    """The figures of forecasts (cluster, label, score, naive) with their intervals.

    mae and rmse in units of the label; wape, the absolute errors over the values; skill, the share of the naive
    forecast's absolute errors that is saved; calibration, the forecasts over the values. Where the naive forecast has
    no value it is left out of the skill, on both sides; where it has none at all, there is no skill.

    Raises Refused where there is no row, or the values sum to 0.
    """
    if rows.is_empty():
        raise Refused("figures of forecasts need rows, found none; check that the test week has labels")
    clusters, (index,) = _clusters([rows])
    values = rows["label"].cast(pl.Float64).to_numpy()
    errors = _errors(rows, "score")
    beside = rows["naive"].is_not_null().to_numpy()
    naive = np.abs(values - rows["naive"].cast(pl.Float64).fill_null(0.0).to_numpy())
    sums = np.stack(
        [
            _summed(column, index, clusters)
            for column in (
                np.ones(rows.height),
                errors,
                errors * errors,
                rows["score"].to_numpy(),
                values,
                np.where(beside, errors, 0.0),
                np.where(beside, naive, 0.0),
            )
        ]
    )
    if not sums[4].sum():
        raise Refused("the values of the test rows sum to 0; no error can be set against them")

    def figures(counts: Counts) -> tuple[float, ...]:
        n, absolute, squared, forecast, value, own, other = sums @ counts
        return (
            absolute / n,
            math.sqrt(squared / n),
            absolute / value,
            _saved(float(own), float(other)),
            forecast / value,
        )

    names = ("mae", "rmse", "wape", "skill", "calibration")
    drawn = np.array([figures(counts) for counts in resampled(clusters, replicates, seed)])
    whole = figures(np.ones(clusters, dtype=np.int64))
    return {
        name: interval_of(float(whole[at]), drawn[:, at])
        for at, name in enumerate(names)
        if name != "skill" or beside.any()
    }


def _saved(own: float, other: float) -> float:
    """The share of another's errors that is saved; as much is lost where the other makes none."""
    return 1 - own / other if other else (0.0 if not own else -1.0)


def _errors(rows: pl.DataFrame, score: str) -> _Floats:
    values, scores = (rows[name].cast(pl.Float64).to_numpy() for name in ("label", score))
    if not (np.isfinite(values).all() and np.isfinite(scores).all()):
        raise Refused(
            "expected a finite value and forecast in each row; leave out rows whose value is not known"
        )
    found: _Floats = np.abs(values - scores)
    return found


def _clusters(weeks: Sequence[pl.DataFrame]) -> tuple[int, list[NDArray[np.intp]]]:
    """How many clusters there are in all weeks, and the number of each row's, week by week."""
    found = [rows["cluster"].to_numpy() for rows in weeks]
    ids = np.unique(np.concatenate(found))
    return len(ids), [np.searchsorted(ids, column) for column in found]


def _summed(values: _Floats, cluster: NDArray[np.intp], clusters: int) -> _Floats:
    found: _Floats = np.bincount(cluster, weights=values, minlength=clusters).astype(np.float64)
    return found


def _drawn(measure: Callable[[Counts], float], clusters: int, replicates: int, seed: int) -> Interval:
    drawn = np.array([measure(counts) for counts in resampled(clusters, replicates, seed)])
    return interval_of(measure(np.ones(clusters, dtype=np.int64)), drawn)
