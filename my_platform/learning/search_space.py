"""What a search may choose from, as data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl
from numpy.typing import ArrayLike

Parameters = Mapping[str, float | int]


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included; whole ones where both ends are. `log` spreads them by factors."""

    low: float | int
    high: float | int
    log: bool = False

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def holds(self, value: float | int) -> bool:
        return self.low <= value <= self.high and (not self.whole or value == int(value))


Space = Mapping[str, Range]
"""A range by parameter."""

Fit = Callable[[pl.DataFrame, Parameters, int], Callable[[pl.DataFrame], ArrayLike]]
"""Fits rows of the training set with parameters and a seed: a function from features to scores."""


@dataclass(frozen=True)
class Tuning:
    """How a model's parameters are searched.

    Attributes:
        space: what may be chosen.
        present: the parameters that count now.
        training_set: the weekly asset that the model is fitted on.
        fit: fits it as its asset does.
    """

    space: Space
    present: Parameters
    training_set: str
    fit: Fit
