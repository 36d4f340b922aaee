"""When a model is fitted again: the policy that a domain declares beside it, and what it says of the facts.

Facts in, a verdict out: the weeks to fit with the reason, or why none is. No clock, no storage. Time is told in weeks
of data, T0 of the model that could be fitted, so that the same landed days give the same decisions; only the budget
looks at what was spent within days of the calendar.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, timedelta
from typing import Any, Literal, get_args

from my_platform.errors import PlatformError
from my_platform.learning.bootstrap import Interval
from my_platform.learning.detection import AVERAGE_PRECISION
from my_platform.learning.measure import Measure

LABELS_KNOWN_AFTER = timedelta(days=14)
FIRST = "the first model under this policy"
KEPT = "was fitted before the policy was declared"
_DAY = timedelta(days=1)

Role = Literal["challenger", "test", "kept"]
"""A challenger is what a reason asks for; a test is fitted beside it so that the gate can judge; what was fitted before
the policy was declared is kept."""


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
        given = {name: getattr(self, name) for name in ("labelled_weeks", "every_days", "drifted_days")}
        given |= {"most_fits": self.most_fits, "most_cpu_s": self.most_cpu_s, "budget_days": self.budget_days}
        few = [f"{name}={value}" for name, value in given.items() if value is not None and not value > 0]
        floors = {"drift": self.drift, "decay": self.decay, "tests": self.tests}
        floors |= {"cool_down_days": self.cool_down_days}
        few += [f"{name}={value}" for name, value in floors.items() if value is not None and not value >= 0]
        if few:
            raise PlatformError(
                f"a retraining policy cannot have {', '.join(few)}; expected a positive number"
            )
        if not self.reasons and not self.new_code:
            raise PlatformError(
                "a retraining policy needs a reason to retrain: labelled_weeks, every_days, drift, drifted_days, "
                "decay or new_code"
            )

    @property
    def reasons(self) -> dict[str, Any]:
        """The reasons with a number that are declared."""
        names = ("labelled_weeks", "every_days", "drift", "drifted_days", "decay")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


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


@dataclass(frozen=True)
class Fit:
    """A week that is to be fitted, and why."""

    week: str
    reason: str
    role: Role


@dataclass(frozen=True)
class Verdict:
    """What a policy says.

    Attributes:
        week: the week that it is about; empty where none could be fitted.
        reason: why that week should be fitted; empty where there is no reason.
        held: why it is not, though there is a reason.
        fits: the weeks to fit, the challenger first.
        quiet: why there is no reason, in words.
        gate: how many weekly tests the gate will have, in words.
    """

    week: str = ""
    reason: str = ""
    held: str = ""
    fits: Sequence[Fit] = ()
    quiet: str = ""
    gate: str = ""

    @property
    def said(self) -> str:
        """The verdict in one line."""
        if not self.reason:
            return self.quiet
        return f"{self.reason}, held back by {self.held}" if self.held else self.reason

    def as_json(self) -> dict[str, Any]:
        """The shape that the command line prints."""
        return {
            "week": self.week or None,
            "reason": self.reason or None,
            "held_back_by": self.held or None,
            "quiet": self.quiet or None,
            "gate": self.gate or None,
            "fits": [{"week": fit.week, "role": fit.role, "reason": fit.reason} for fit in self.fits],
        }


@dataclass
class _Room:
    """How many fits the budget has room for."""

    fits: float
    cpu_s: float
    cpu_s_a_fit: float
    said: Mapping[str, str] = field(default_factory=dict)

    def take(self, *, free: bool) -> str:
        """Take one fit out of it; what is spent where there is no room for it."""
        if free:
            return ""
        if self.fits < 1:
            return self.said["fits"]
        if self.cpu_s <= 0 or self.cpu_s < self.cpu_s_a_fit:
            return self.said["cpu_s"]
        self.fits -= 1
        self.cpu_s -= self.cpu_s_a_fit
        return ""


def judge(
    policy: Retraining, facts: Facts, measure: Measure = AVERAGE_PRECISION, *, by_hand: str = ""
) -> Verdict:
    """What a policy says of the facts.

    Args:
        by_hand: a person's reason to fit now, which neither cool-down nor budget holds back.
    """
    week = max(facts.fittable, default="")
    last = max(facts.decided, default="")
    if week <= last:
        return Verdict(quiet=f"the latest week that can be fitted, {last}, is decided" if last else _NOTHING)
    reason = "; ".join(reasons(policy, facts, week, measure, by_hand))
    if not reason:
        return Verdict(week, quiet=f"no reason to fit {week}: {_quiet(policy, facts, week)}")
    room = _room(policy, facts)
    held = _cool_down(policy, facts, week) or room.take(free=week in facts.stored)
    if held and not by_hand:
        return Verdict(week, reason, held)
    fits = [Fit(week, reason, "challenger")]
    if not facts.challengers:
        fits += [Fit(each, KEPT, "kept") for each in facts.stored if each < week]
    wanted, had = _tests(policy, facts, fits)
    for each in wanted:
        if room.take(free=each in facts.stored):
            break
        fits.append(Fit(each, f"so that the gate can judge {week}", "test"))
        had += 1
    return Verdict(week, reason, fits=fits, gate=_gate(policy, week, had))


_NOTHING = "no week can be fitted yet: what it reads has not landed"


def reasons(
    policy: Retraining, facts: Facts, week: str, measure: Measure = AVERAGE_PRECISION, by_hand: str = ""
) -> list[str]:
    """The reasons to fit a week, in words."""
    if by_hand:
        return [f"by hand: {by_hand}"]
    if not facts.challengers:
        return [FIRST]
    last = max(facts.challengers)
    found = []
    if policy.new_code and facts.recipe != facts.last_recipe:
        found.append(f"new code or parameters: recipe {facts.recipe[:12]}, was {facts.last_recipe[:12]}")
    aged, moved = facts.aged, facts.moved
    if policy.decay is not None and aged is not None and _worse(aged, policy.decay, measure):
        found.append(
            f"decay: {measure.name} of {aged.model} is {aged.found.value:.4f} in week {aged.week} (95 %: "
            f"{aged.found.low:.4f} to {aged.found.high:.4f}), was {aged.first_value:.4f} in week {aged.first}; "
            f"{policy.decay:g} is allowed"
        )
    if policy.drift is not None and moved is not None and moved.index > policy.drift:
        found.append(
            f"drift: stability index {moved.index:.3f} of the scores of {moved.model} in week {moved.week}, limit "
            f"{policy.drift:g}"
        )
    drifted = _since(facts, last)
    if policy.drifted_days is not None and len(drifted) >= policy.drifted_days:
        found.append(
            f"drift checks failed on {len(drifted)} days since {last}, the last of them {drifted[-1]} (a reason from "
            f"{policy.drifted_days} on)"
        )
    new = new_labels(facts, last, week)
    if policy.labelled_weeks is not None and len(new) >= policy.labelled_weeks:
        found.append(f"{len(new)} new labelled weeks, {new[0]} to {new[-1]}")
    if policy.every_days is not None and _days(last, week) >= policy.every_days:
        found.append(f"schedule: {_days(last, week)} days since {last}, every {policy.every_days}")
    return found


def new_labels(facts: Facts, last: str, week: str) -> list[str]:
    """The weeks whose labels became known between two models."""
    return [each for each in facts.labelled if known_for(each, week) and not known_for(each, last)]


def known_for(tested: str, week: str) -> bool:
    """Whether the labels of a tested week are known to a model of a week."""
    return date.fromisoformat(tested) + LABELS_KNOWN_AFTER <= date.fromisoformat(week)


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


def _worse(aged: Aged, drop: float, measure: Measure) -> bool:
    return measure.is_worse(aged.found, measure.least(aged.first_value, drop))


def _since(facts: Facts, last: str) -> list[str]:
    return [day for day in facts.drifted if day >= last]


def _days(last: str, week: str) -> int:
    return (date.fromisoformat(week) - date.fromisoformat(last)) // _DAY


def _cool_down(policy: Retraining, facts: Facts, week: str) -> str:
    last = max(facts.challengers, default="")
    if not last or _days(last, week) >= policy.cool_down_days:
        return ""
    return f"the cool-down: {_days(last, week)} of {policy.cool_down_days} days since the model of {last}"


def _room(policy: Retraining, facts: Facts) -> _Room:
    within = f"of the last {policy.budget_days} days are spent"
    said = {
        "fits": f"the budget: {facts.fits} of {policy.most_fits} fits {within}",
        "cpu_s": f"the budget: {facts.cpu_s:,.0f} of {policy.most_cpu_s or 0:,.0f} processor seconds {within}, and a "
        f"fit takes {facts.cpu_s_a_fit:,.0f}",
    }
    return _Room(
        float("inf") if policy.most_fits is None else policy.most_fits - facts.fits,
        float("inf") if policy.most_cpu_s is None else policy.most_cpu_s - facts.cpu_s,
        facts.cpu_s_a_fit,
        said,
    )


def _tests(policy: Retraining, facts: Facts, fits: Sequence[Fit]) -> tuple[list[str], int]:
    """The weeks to fit so that the gate has its tests, the latest first, and how many it has without them."""
    week = fits[0].week
    there = {*facts.decided, *(fit.week for fit in fits)}
    known = [each for each in facts.labelled if known_for(each, week)]
    had = sum(each in there for each in known)
    could = [each for each in reversed(known) if each in facts.fittable and each not in there]
    return could[: max(0, policy.tests - had)], had


def _gate(policy: Retraining, week: str, tests: int) -> str:
    if not tests:
        first = date.fromisoformat(week) + LABELS_KNOWN_AFTER
        return (
            f"the gate cannot judge {week}: its recipe is fitted for no week whose labels are known by then; a model of "
            f"{first} or later it can"
        )
    few = f", of {policy.tests} that the policy asks for" if tests < policy.tests else ""
    return f"the gate has {tests} weekly tests{few}"


def _quiet(policy: Retraining, facts: Facts, week: str) -> str:
    """How far each reason is from being one."""
    last = max(facts.challengers)
    said = []
    if policy.labelled_weeks is not None:
        said.append(f"{len(new_labels(facts, last, week))} of {policy.labelled_weeks} new labelled weeks")
    if policy.every_days is not None:
        said.append(f"{_days(last, week)} of {policy.every_days} days")
    if policy.drift is not None:
        index = f"{facts.moved.index:.3f}" if facts.moved else "unknown"
        said.append(f"stability index {index}, limit {policy.drift:g}")
    if policy.drifted_days is not None:
        said.append(f"{len(_since(facts, last))} of {policy.drifted_days} days with failed drift checks")
    if policy.decay is not None:
        value = (
            f"{facts.aged.found.value:.4f}, was {facts.aged.first_value:.4f}"
            if facts.aged
            else "not known yet"
        )
        said.append(f"measure {value}, {policy.decay:g} is allowed")
    if policy.new_code:
        said.append("the same code")
    return "; ".join(said)
