"""From scored test rows to the numbers that the gate judges."""

import math
from collections.abc import Iterable, Sequence

import polars as pl

from my_platform.learning.bootstrap import Interval, PairedWeek, difference_interval
from my_platform.learning.gate import Policy, SliceGain
from my_platform.learning.metrics import average_precision
from my_platform.learning.slices import slices_of

CHAMPION = "champion_score"


def expected_and_observed(weeks: Iterable[pl.DataFrame]) -> tuple[float, int]:
    """The sum of the scores and the number of frauds of tested weeks (score, fraud)."""
    tested = list(weeks)
    expected = math.fsum(score for rows in tested for score in rows["score"])
    return expected, sum(int(rows["fraud"].sum()) for rows in tested)


def scores_alike(weeks: Iterable[pl.DataFrame]) -> bool:
    """Whether candidate and champion gave every row the same score."""
    return all((rows["score"] == rows[CHAMPION]).all() for rows in weeks)


def gain(weeks: Sequence[pl.DataFrame], policy: Policy) -> Interval | None:
    """By how much the candidate beats the champion on tested weeks (card, fraud, score, champion_score).

    None where no week has both frauds and genuine rows.
    """
    tested = [rows for rows in weeks if rows["fraud"].any() and not rows["fraud"].all()]
    if not tested:
        return None
    if scores_alike(tested):
        return Interval(0.0, 0.0, 0.0)
    pairs = [PairedWeek(rows["fraud"], rows["card"], rows["score"], rows[CHAMPION]) for rows in tested]
    return difference_interval(pairs, replicates=policy.replicates, seed=policy.seed)


def slice_gains(weeks: Sequence[pl.DataFrame], slices: Sequence[str]) -> list[SliceGain]:
    """The gain in each slice, over the rows of all weeks together; slices of one class tell nothing."""
    rows = pl.concat(weeks) if weeks else pl.DataFrame(schema=dict.fromkeys(slices, pl.String))
    found = []
    for column in slices:
        for value, part in slices_of(rows, column):
            positives = int(part["fraud"].sum())
            if 0 < positives < part.height:
                ours, theirs = (average_precision(part["fraud"], part[name]) for name in ("score", CHAMPION))
                name = f"{column.replace('_', ' ').lower()}: {value}"
                found.append(SliceGain(name, positives, ours - theirs))
    return found
