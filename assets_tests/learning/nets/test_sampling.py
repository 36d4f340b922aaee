import numpy as np
import pytest

from assets_tests.learning.nets.rows import training_set
from my_platform.errors import Refused
from my_platform.learning.nets.sampling import batches_of_epoch, last_rows, rows_of_epoch

LABELS = training_set().labels
DAYS = training_set().days


def test_every_epoch_takes_all_rows_labelled_1_and_a_part_of_the_others_once() -> None:
    parts = 4
    taken = [rows_of_epoch(LABELS, parts, 1, epoch) for epoch in range(parts)]
    for rows in taken:
        assert sorted(rows[LABELS[rows]]) == list(np.flatnonzero(LABELS))
    others = np.concatenate([rows[~LABELS[rows]] for rows in taken])
    assert len(others) == len(set(others.tolist()))
    assert len(np.flatnonzero(~LABELS)) - len(others) < parts


def test_the_rows_of_an_epoch_depend_on_seed_and_epoch_alone() -> None:
    assert (rows_of_epoch(LABELS, 3, 1, 5) == rows_of_epoch(LABELS, 3, 1, 5)).all()
    assert (rows_of_epoch(LABELS, 3, 1, 5) != rows_of_epoch(LABELS, 3, 2, 5)).any()
    assert (rows_of_epoch(LABELS, 3, 1, 5) != rows_of_epoch(LABELS, 3, 1, 6)).any()


def test_batches_are_whole_and_one_at_least() -> None:
    ones = int(LABELS.sum())
    assert batches_of_epoch(LABELS, 2, 100) == (ones + (len(LABELS) - ones) // 2) // 100
    assert batches_of_epoch(LABELS, 2, 10**6) == 1


def test_the_rows_to_stop_by_are_those_of_the_last_days() -> None:
    last = last_rows(DAYS, LABELS, 0.1)
    assert DAYS[~last].max() < DAYS[last].min()
    assert LABELS[last].sum() >= 0.1 * LABELS.sum()
    shorter = last & (DAYS[last].min() < DAYS)
    assert LABELS[shorter].sum() < 0.1 * LABELS.sum()


@pytest.mark.parametrize("labels", [np.zeros(10, dtype=bool), np.ones(10, dtype=bool)])
def test_rows_of_one_class_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(Refused, match="rows of both classes"):
        last_rows(np.arange(10), labels, 0.1)


def test_labels_of_a_single_day_are_refused() -> None:
    labels = np.zeros(20, dtype=bool)
    labels[10] = True
    with pytest.raises(Refused, match="rows of both classes to fit on, found 0 labelled 1 in 10"):
        last_rows(np.arange(20) // 10, labels, 0.1)
