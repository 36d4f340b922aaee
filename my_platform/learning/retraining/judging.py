"""What a retraining policy says of the facts: the weeks to fit with the reason, or why none is.

No clock, no storage. The same landed days give the same decisions; only the budget looks at what was spent within days of
the calendar.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from my_platform.learning.detection import AVERAGE_PRECISION
from my_platform.learning.measure import Measure
from my_platform.learning.retraining.facts import LABELS_KNOWN_AFTER, Facts, days_between, known_for
from my_platform.learning.retraining.policy import Retraining
from my_platform.learning.retraining.reasons import no_reason, reasons

KEPT = "was fitted before the policy was declared"

Role = Literal["challenger", "test", "kept"]
"""A challenger is what a reason asks for; a test is fitted beside it so that the gate can judge; what was fitted before
the policy was declared is kept."""


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
        return Verdict(week, quiet=f"no reason to fit {week}: {no_reason(policy, facts, week)}")
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


def _cool_down(policy: Retraining, facts: Facts, week: str) -> str:
    last = max(facts.challengers, default="")
    if not last or days_between(last, week) >= policy.cool_down_days:
        return ""
    return (
        f"the cool-down: {days_between(last, week)} of {policy.cool_down_days} days since the model of {last}"
    )


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
