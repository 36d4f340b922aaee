"""How long an exported model takes for a row, on this machine and now."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from my_platform.learning.export.scoring import ROWS_AT_ONCE, OnnxModel

_ROUNDS, _CALLS = 5, 100


@dataclass(frozen=True)
class Timing:
    """Microseconds a row: scored alone, in the median over calls, and among others."""

    alone_us: float
    among_others_us: float

    def as_json(self) -> dict[str, float]:
        return asdict(self)


def sum_of(timings: Sequence[Timing]) -> Timing:
    """The time of models that are asked one after the other."""
    return Timing(sum(found.alone_us for found in timings), sum(found.among_others_us for found in timings))


def time_rows(model: OnnxModel, rows: NDArray[np.float64]) -> Timing:
    """The time of the fastest round, as other work on the machine only ever slows one."""
    many = np.resize(rows, (ROWS_AT_ONCE, rows.shape[1]))
    singles = [many[number : number + 1] for number in range(_CALLS)]
    alone, together = [], []
    for _ in range(_ROUNDS):
        alone.append(median(_seconds(model, row) for row in singles))
        together.append(_seconds(model, many) / len(many))
    return Timing(min(alone) * 1e6, min(together) * 1e6)


def _seconds(model: OnnxModel, rows: NDArray[np.float64]) -> float:
    started = time.perf_counter()
    model.rows(rows)
    return time.perf_counter() - started
