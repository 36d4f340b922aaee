"""The retraining policy that a domain declares beside a model."""

from dataclasses import dataclass, fields
from typing import Any, get_args

from my_platform.errors import PlatformError

_REASONS = ("labelled_weeks", "every_days", "drift", "drifted_days", "decay")


@dataclass(frozen=True)
class Retraining:
    """When a model is fitted again. A reason that is None or False is none; at least one has to be given.

    Attributes:
        labelled_weeks: after so many weeks whose labels became known since the last fit.
        every_days: when the last model is of a week that began so many days ago.
        drift: where the stability index of the model's scores, of the latest labelled week against its first, is above.
        drifted_days: on so many days since the last fit on which a drift check of a table failed that it is made from.
        decay: where its measure on the latest labelled week is worse than on its first by more than this, beyond chance.
        new_code: when its code or parameters, or those of what it is made from, are others than at the last fit.
        cool_down_days: days that lie at least between the weeks of two models.
        most_fits, most_cpu_s: fits and their processor seconds that are not exceeded within `budget_days`.
        tests: weekly tests that the gate is to have: labelled weeks are fitted, too, until there are so many.
    """

    labelled_weeks: int | None = None
    every_days: int | None = None
    drift: float | None = None
    drifted_days: int | None = None
    decay: float | None = None
    new_code: bool = False
    cool_down_days: int = 0
    most_fits: int | None = None
    most_cpu_s: float | None = None
    budget_days: int = 28
    tests: int = 4

    def __post_init__(self) -> None:
        above_0 = ("labelled_weeks", "every_days", "drifted_days", "most_fits", "most_cpu_s", "budget_days")
        from_0 = ("drift", "decay", "cool_down_days", "tests")
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        few = [name for name in above_0 if given[name] is not None and not given[name] > 0]
        few += [name for name in from_0 if given[name] is not None and not given[name] >= 0]
        if few:
            told = ", ".join(f"{name}={given[name]}" for name in few)
            raise PlatformError(f"a retraining policy cannot have {told}; expected a positive number")
        if not self.new_code and all(given[name] is None for name in _REASONS):
            raise PlatformError(
                f"a retraining policy needs a reason to retrain: {', '.join(_REASONS)} or new_code"
            )


def policy_of(text: str) -> Retraining:
    """The policy of a text such as ``labelled_weeks=4,drift=0.1,cool_down_days=14``.

    Raises:
        PlatformError: a name or a number is none.
    """
    kinds = {each.name: (get_args(each.type) or (each.type,))[0] for each in fields(Retraining)}
    given: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in kinds:
            raise PlatformError(f"`{part}` is nothing that a policy has; there are {', '.join(kinds)}")
        try:
            given[name] = _FLAGS[value.lower()] if kinds[name] is bool else kinds[name](value)
        except (ValueError, KeyError):
            raise PlatformError(f"`{part}`: expected {_EXPECTED[kinds[name]]} after `{name}=`") from None
    return Retraining(**given)


_FLAGS = {"": True, "true": True, "false": False}
_EXPECTED = {int: "a whole number", float: "a number", bool: "true or false"}
