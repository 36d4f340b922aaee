"""What a retraining policy is held against. Time is told in weeks of data: T0 of the model that could be fitted."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from my_platform.learning.bootstrap import Interval

LABELS_KNOWN_AFTER = timedelta(days=14)
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Moved:
    """How far a model's scores have moved: their stability index, by week."""

    model: str
    week: str
    index: float


@dataclass(frozen=True)
class Aged:
    """The measure of a model on its first labelled week and on the latest one."""

    model: str
    first: str
    first_value: float
    week: str
    found: Interval


@dataclass(frozen=True)
class Facts:
    """What a policy is held against; weeks are named by T0, the earliest first.

    Attributes:
        fittable: weeks that nobody has decided on, whose inputs are there.
        stored: those of them that were fitted before from the same inputs by the same code: they cost nothing.
        decided: weeks that were decided to be fitted.
        challengers: those of them that were fitted for a reason.
        labelled: weeks whose tests count and are there, or will be after a refresh.
        recipe, last_recipe: what the model is made by now, and was when the last challenger was decided.
        moved, aged: of the model that serves, or was fitted last; None where too few labelled weeks have come since.
        drifted: days on which a drift check failed.
        fits, cpu_s: spent within the days of the budget, weeks that were decided and are not fitted yet included.
        cpu_s_a_fit: processor seconds of a fit, as a mean; 0 where there was none.
    """

    fittable: Sequence[str] = ()
    stored: Sequence[str] = ()
    decided: Sequence[str] = ()
    challengers: Sequence[str] = ()
    labelled: Sequence[str] = ()
    recipe: str = ""
    last_recipe: str = ""
    moved: Moved | None = None
    aged: Aged | None = None
    drifted: Sequence[str] = ()
    fits: int = 0
    cpu_s: float = 0.0
    cpu_s_a_fit: float = 0.0


def new_labels(facts: Facts, last: str, week: str) -> list[str]:
    """The weeks whose labels became known between two models."""
    return [each for each in facts.labelled if known_for(each, week) and not known_for(each, last)]


def known_for(tested: str, week: str) -> bool:
    """Whether the labels of a tested week are known to a model of a week."""
    return date.fromisoformat(tested) + LABELS_KNOWN_AFTER <= date.fromisoformat(week)


def days_between(last: str, week: str) -> int:
    """The days between the first days of two weeks."""
    return (date.fromisoformat(week) - date.fromisoformat(last)) // _DAY
