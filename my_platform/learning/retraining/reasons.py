"""The reasons to fit a model again that hold, and how far the others are from holding."""

from my_platform.learning.detection import AVERAGE_PRECISION
from my_platform.learning.measure import Measure
from my_platform.learning.retraining.facts import Aged, Facts, days_between, new_labels
from my_platform.learning.retraining.policy import Retraining

FIRST = "the first model under this policy"


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
    if policy.every_days is not None and days_between(last, week) >= policy.every_days:
        found.append(f"schedule: {days_between(last, week)} days since {last}, every {policy.every_days}")
    return found


def no_reason(policy: Retraining, facts: Facts, week: str) -> str:
    """How far each reason is from being one, in words."""
    last = max(facts.challengers)
    said = []
    if policy.labelled_weeks is not None:
        said.append(f"{len(new_labels(facts, last, week))} of {policy.labelled_weeks} new labelled weeks")
    if policy.every_days is not None:
        said.append(f"{days_between(last, week)} of {policy.every_days} days")
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


def _worse(aged: Aged, drop: float, measure: Measure) -> bool:
    return measure.is_worse(aged.found, measure.least(aged.first_value, drop))


def _since(facts: Facts, last: str) -> list[str]:
    return [day for day in facts.drifted if day >= last]
