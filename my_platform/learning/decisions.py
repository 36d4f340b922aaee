"""What a score is worth when people act on it: where to draw the line, and what each line costs."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from my_platform.errors import Refused

_MOST_POINTS = 200


@dataclass(frozen=True)
class Costs:
    """What one check and one miss cost, in one currency."""

    check: float
    miss: float


@dataclass(frozen=True)
class CostCurve:
    """The cost a day of looking at the rows with the highest scores.

    `points` by rising number of alarms: alarms_a_day, cost_a_day; the first looks at nothing. `best` is the
    cheapest line of all, at `threshold`: rows with that score or a higher one are looked at.
    """

    costs: Costs
    points: pl.DataFrame
    threshold: float
    alarms_a_day: float
    cost_a_day: float
    cost_a_day_of_nothing: float


def operating_threshold(scored: pl.DataFrame, k: int) -> float:
    """The score from which on about k clusters a day are looked at: the median over days of the k-th highest.

    `scored` has day, cluster and score; a cluster has the maximum of its scores of the day. On a day of fewer than
    k clusters it is the lowest.

    Raises Refused where there is no row.
    """
    if scored.is_empty():
        raise Refused("a threshold needs scored rows, found none; check that the test week has labels")
    clusters = scored.group_by("day", "cluster").agg(pl.col("score").max())
    kth = clusters.group_by("day").agg(pl.col("score").top_k(k).min())
    return float(np.median(kth.sort("day")["score"].to_numpy()))


def cost_curve(label: ArrayLike, score: ArrayLike, costs: Costs, days: int) -> CostCurve:
    """The cost of each number of alarms, from none to three times as many as cost least.

    Every alarm is a check, every positive row below the line is a miss. Rows of one score are looked at together.

    Raises Refused where no row is positive.
    """
    labels = np.asarray(label, dtype=np.bool_)
    scores = np.asarray(score, dtype=np.float64)
    if not labels.any():
        raise Refused(f"the cost of misses needs positive rows, found none in {len(labels)} rows")
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)) + 1
    found = np.cumsum(labels[order])[ends - 1]
    positives = int(labels.sum())
    alarms = np.concatenate([[0], ends])
    missed = np.concatenate([[positives], positives - found])
    cost = alarms * costs.check + missed * costs.miss
    best = int(np.argmin(cost))
    shown = np.flatnonzero(alarms <= max(3 * alarms[best], 3))
    shown = shown[np.unique(np.linspace(0, len(shown) - 1, min(_MOST_POINTS, len(shown))).astype(np.intp))]
    points = pl.DataFrame({"alarms_a_day": alarms[shown] / days, "cost_a_day": cost[shown] / days})
    return CostCurve(
        costs,
        points,
        threshold=float(falling[ends[best - 1] - 1]) if best else float("inf"),
        alarms_a_day=float(alarms[best] / days),
        cost_a_day=float(cost[best] / days),
        cost_a_day_of_nothing=float(cost[0] / days),
    )
