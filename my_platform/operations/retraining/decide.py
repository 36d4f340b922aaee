"""Asking the retraining policies, and writing down what they decide."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from my_platform.errors import PlatformError
from my_platform.learning.contender import Contender
from my_platform.learning.registry import Registry
from my_platform.learning.retraining.facts import Facts
from my_platform.learning.retraining.judging import Verdict, judge
from my_platform.learning.retraining.policy import Retraining
from my_platform.operations.models import Models
from my_platform.operations.outcome import Heads
from my_platform.operations.platform import Workspace
from my_platform.operations.refresh import look_ahead
from my_platform.operations.retraining.facts import facts_of, mark_of, weeks_of
from my_platform.storage.objects import locked
from my_platform.storage.retraining import FitDecision

POLICY = "policy"


@dataclass(frozen=True)
class Asked:
    """What came of asking the policy of a model.

    Attributes:
        verdict: what it says; None where nothing has changed since it was asked last.
        written: the weeks that are decided by this call.
        mark: what the verdict rests on, as a digest.
    """

    model: str
    policy: Retraining
    verdict: Verdict | None
    written: Sequence[str]
    mark: str

    @property
    def said(self) -> str:
        """The outcome in one line."""
        if self.verdict is None:
            return f"{self.model}: nothing has changed"
        weeks = f", decided for {', '.join(self.written)}" if self.written else ""
        named = f" {self.verdict.week}" if self.verdict.week and self.verdict.reason else ""
        return f"{self.model}{named}: {self.verdict.said}{weeks}"

    def as_json(self) -> dict[str, Any]:
        """The shape that the command line prints."""
        verdict = self.verdict.as_json() if self.verdict else {}
        policy = {name: value for name, value in asdict(self.policy).items() if value is not None}
        return {"model": self.model, **verdict, "decided": list(self.written), "policy": policy}


@dataclass(frozen=True)
class Asking:
    """Who asks, and how.

    Attributes:
        by: who decides: a person, or the policy itself.
        by_hand: a person's reason to fit now; empty where the policy is asked.
        dry_run: only tell.
        seen: by model, the mark of what was seen last: where it is the same, nothing is asked.
    """

    by: str = POLICY
    by_hand: str = ""
    dry_run: bool = False
    seen: Mapping[str, str] | None = None


def with_policies(workspace: Workspace, model: str | None = None) -> list[str]:
    """The models with a retraining policy, or the named one.

    Raises:
        PlatformError: the named one has none.
    """
    policies = sorted(workspace.project.policies)
    if model is None:
        return policies
    if model not in policies:
        known = ", ".join(policies) or "none"
        raise PlatformError(
            f"{model} has no retraining policy, so each of its weeks is fitted as soon as what it reads is there; models "
            f"with one: {known}. Declare one in the domain's `contenders`, or set MY_PLATFORM_RETRAINING"
        )
    return [model]


def retrain(
    workspace: Workspace, heads: Heads, registry: Registry, lock: Path, names: Sequence[str], asking: Asking
) -> list[Asked]:
    """Ask the policies of models, one after the other, and write down the weeks that are to be fitted.

    Nothing is fitted: a week that is decided is owed, and the next refresh fits it. One process at a time asks, so that
    the next one knows of its decisions.

    Args:
        lock: a file that is locked meanwhile.

    Raises:
        PlatformError: a decision cannot be read or written.
    """
    with locked(lock):
        return list(_retrain(workspace, heads, registry, names, asking))


def _retrain(
    workspace: Workspace, heads: Heads, registry: Registry, names: Sequence[str], asking: Asking
) -> Iterator[Asked]:
    planned = look_ahead(workspace, heads)
    models = Models(workspace, heads, registry)
    # A model that is made of others can be fitted for the weeks that are decided for those.
    for name in (node.name for node in workspace.project.order if node.name in names):
        now = datetime.now(UTC)
        contender = models.contender(name)
        policy = workspace.project.policies[name]
        weeks = weeks_of(workspace, heads, planned, contender)
        decisions = workspace.fit_decisions.of(name)
        mark = mark_of(models, weeks, contender, [each.week for each in decisions], now.timestamp())
        if asking.seen is not None and asking.seen.get(name) == mark:
            yield Asked(name, policy, None, (), mark)
            continue
        facts = facts_of(models, weeks, decisions, policy, contender, now.timestamp())
        verdict = judge(policy, facts, contender.measure, by_hand=asking.by_hand)
        written = [] if asking.dry_run else _write(workspace, contender, verdict, facts, asking.by, now)
        if written:
            planned = look_ahead(workspace, heads)
        yield Asked(name, policy, verdict, written, mark)


def _write(
    workspace: Workspace, contender: Contender, verdict: Verdict, facts: Facts, by: str, now: datetime
) -> list[str]:
    """The weeks that were written down: the challenger last, as without it nothing is decided."""
    written = []
    for fit in reversed(verdict.fits):
        decision = FitDecision(
            contender.model,
            fit.week,
            fit.role,
            fit.reason,
            by,
            now.isoformat(timespec="microseconds"),
            facts.recipe,
            _evidence(facts, verdict),
        )
        if workspace.fit_decisions.add(decision):
            written.append(fit.week)
    return sorted(written)


def _evidence(facts: Facts, verdict: Verdict) -> dict[str, Any]:
    """The numbers behind a decision."""
    return {
        "for": verdict.week,
        "gate": verdict.gate,
        "fits_within_budget": facts.fits,
        "cpu_seconds_within_budget": round(facts.cpu_s, 3),
        **({"stability_index": round(facts.moved.index, 4)} if facts.moved else {}),
        **({"measure": facts.aged.found.as_json(), "was": facts.aged.first_value} if facts.aged else {}),
    }
