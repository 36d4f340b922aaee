"""From scored test rows to the numbers that the gate judges."""

from collections.abc import Iterable, Sequence

import polars as pl

from my_platform.learning.bootstrap import Interval
from my_platform.learning.detection import AVERAGE_PRECISION
from my_platform.learning.gate import Policy, SliceGain
from my_platform.learning.measure import Measure
from my_platform.learning.slices import slices_of

CHAMPION = "champion_score"


def scores_alike(weeks: Iterable[pl.DataFrame]) -> bool:
    """Whether candidate and champion gave every row the same score."""
    return all((rows["score"] == rows[CHAMPION]).all() for rows in weeks)


def gain(
    weeks: Sequence[pl.DataFrame], policy: Policy, measure: Measure = AVERAGE_PRECISION
) -> Interval | None:
    """By how much the candidate beats the champion on tested weeks (cluster, label, score, champion_score).

    None where no week tells.
    """
    tested = [rows for rows in weeks if measure.tells(rows)]
    if not tested:
        return None
    if scores_alike(tested):
        return Interval(0.0, 0.0, 0.0)
    return measure.gain_interval(tested, "score", CHAMPION, replicates=policy.replicates, seed=policy.seed)


def slice_gains(
    weeks: Sequence[pl.DataFrame], slices: Sequence[str], measure: Measure = AVERAGE_PRECISION
) -> list[SliceGain]:
    """The gain in each slice, over the rows of all weeks together; of slices that tell."""
    rows = pl.concat(weeks) if weeks else pl.DataFrame(schema=dict.fromkeys(slices, pl.String))
    found = []
    for column in slices:
        for value, part in slices_of(rows, column):
            if measure.tells(part):
                name = f"{column.replace('_', ' ').lower()}: {value}"
                found.append(SliceGain(name, measure.weight(part), measure.gain(part, "score", CHAMPION)))
    return found
