"""Which rows an epoch takes, and which rows tell when to stop."""

import numpy as np
from numpy.typing import NDArray

from my_platform.errors import Refused

Labels = NDArray[np.bool_]


def last_rows(days: NDArray[np.integer], labels: Labels, share: float) -> Labels:
    """Marks the rows of the last days that together hold at least `share` of the rows labelled 1.

    Raises:
        Refused: with those set aside, no row of one of the labels would be left on one of the two sides.
    """
    if not labels.any() or labels.all():
        raise Refused(
            f"expected rows of both classes to fit on, found {int(labels.sum())} rows labelled 1 in {len(labels)}; "
            "take a longer training window or wait for labels"
        )
    each, counts = np.unique(days[labels], return_counts=True)
    later = np.cumsum(counts[::-1])[::-1]
    first = each[later >= share * later[0]].max()
    last = days >= first
    for name, rows in (("to fit on", labels[~last]), ("to stop by", labels[last])):
        if not rows.any() or rows.all():
            raise Refused(
                f"expected rows of both classes {name}, found {int(rows.sum())} labelled 1 in {len(rows)} when the "
                f"days from number {first} on are set aside; take a longer training window"
            )
    return last


def rows_of_epoch(labels: Labels, parts: int, seed: int, epoch: int, shard: int = 0) -> NDArray[np.int64]:
    """Row numbers of one epoch in random order: all rows labelled 1, and one part of the others.

    `parts` epochs in a row take all the others once, as far as they divide evenly.
    """
    ones, others = np.flatnonzero(labels), np.flatnonzero(~labels)
    turn, part = divmod(epoch, parts)
    size = len(others) // parts
    order = np.random.default_rng([seed, shard, 0, turn]).permutation(others)
    rows = np.concatenate([ones, order[part * size : (part + 1) * size]])
    np.random.default_rng([seed, shard, 1, epoch]).shuffle(rows)
    return rows


def batches_of_epoch(labels: Labels, parts: int, batch_rows: int) -> int:
    """Whole batches in every epoch; one where there are fewer rows than in a batch."""
    ones = int(labels.sum())
    return max(1, (ones + (len(labels) - ones) // parts) // batch_rows)
