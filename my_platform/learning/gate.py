"""The gate in front of production: numbers in, a verdict with its reasons out.

A candidate becomes champion when all of these hold on the last weeks that its recipe was tested on:

- it is *better*: the lower end of the 95 % interval of its gain in the use's measure is above 0. A refit, which
  is the champion's own recipe on newer data, need only not be worse by more than a margin. Where there is no
  champion there is nothing to beat;
- it is *calibrated*: the sum of its scores is near what was found;
- *no slice* of the rows is served worse by more than a tolerance;
- it keeps its *budget*, and every *check* on what it was made of and tested on passes. These two no person can
  wave through; a check that only warns, such as of a feature that looks like a label, a person can.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from my_platform.learning.bootstrap import Interval
from my_platform.learning.detection import AVERAGE_PRECISION
from my_platform.learning.health import Limits
from my_platform.learning.measure import Measure

Kind = Literal["first", "refit", "new recipe"]


@dataclass(frozen=True)
class Policy:
    """What a domain asks of its champions.

    Attributes:
        weeks: weekly tests that are looked at, the last ones.
        calibration: by which share the sum of the scores may differ from what was found; None where it does not matter.
        inferiority: by how much a refit may be worse, at the lower end of the interval of its gain.
        slice_tolerance: by how much it may be worse in a slice.
        slice_positives: a slice with fewer rows of those that the measure rests on tells nothing.
        replicates, seed: of the bootstrap.
        limits: beyond which a champion is rolled back.
    """

    weeks: int = 4
    calibration: float | None = 0.15
    inferiority: float = 0.01
    slice_tolerance: float = 0.05
    slice_positives: int = 30
    replicates: int = 1000
    seed: int = 1
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class SliceGain:
    """The gain over the champion in one slice, and how many rows it rests on."""

    name: str
    positives: int
    gain: float


@dataclass(frozen=True)
class Case:
    """What is known of a candidate.

    Attributes:
        weeks: the weekly tests, the earliest first.
        compared: those of them, or earlier ones, that the champion's recipe was tested on as well.
        expected, observed: the sum of the scores and of what was found, over all weeks.
        gain: over the champion, as a mean over the weeks compared; None where there is none.
        over_budget, failed_checks, warnings: what stands in its way, in words.
        gained: what the gain is counted in.
    """

    kind: Kind
    weeks: Sequence[str]
    expected: float
    observed: float
    compared: Sequence[str] = ()
    gain: Interval | None = None
    slices: Sequence[SliceGain] = ()
    over_budget: Sequence[str] = ()
    failed_checks: Sequence[str] = ()
    warnings: Sequence[str] = ()
    gained: str = AVERAGE_PRECISION.gained


@dataclass(frozen=True)
class Reason:
    """One rule, whether it is kept, and the numbers; `absolute` rules cannot be waved through."""

    rule: str
    kept: bool
    said: str
    absolute: bool = False


@dataclass(frozen=True)
class Verdict:
    """Whether a candidate may become champion, and why."""

    case: Case
    reasons: Sequence[Reason]

    @property
    def passed(self) -> bool:
        return all(reason.kept for reason in self.reasons)

    @property
    def can_be_forced(self) -> bool:
        """Whether a person may promote it all the same."""
        return all(reason.kept for reason in self.reasons if reason.absolute)

    @property
    def against(self) -> list[str]:
        """What speaks against it, in words."""
        return [reason.said for reason in self.reasons if not reason.kept]

    def as_json(self) -> dict[str, Any]:
        """The figures and reasons as they stand in the ledger."""
        return {"passed": self.passed, **asdict(self.case), "reasons": [asdict(r) for r in self.reasons]}


def judge(case: Case, policy: Policy, measure: Measure = AVERAGE_PRECISION) -> Verdict:
    """The verdict on a candidate."""
    reasons = [
        _tested(case),
        *([_better(case, policy)] if case.kind != "first" else []),
        *([_calibrated(case, policy.calibration, measure)] if policy.calibration is not None else []),
        *([_slices(case, policy, measure)] if case.kind != "first" else []),
        Reason("budget", not case.over_budget, "; ".join(case.over_budget) or "within budget", absolute=True),
        Reason(
            "checks", not case.failed_checks, "; ".join(case.failed_checks) or "checks passed", absolute=True
        ),
        Reason("warnings", not case.warnings, "; ".join(case.warnings) or "no check warns"),
    ]
    return Verdict(case, reasons)


def _tested(case: Case) -> Reason:
    weeks = f"tested on {len(case.weeks)} weeks, {case.weeks[0]} to {case.weeks[-1]}" if case.weeks else ""
    return Reason(
        "tested", bool(case.weeks), weeks or "its recipe was tested on no week whose labels are known"
    )


def _better(case: Case, policy: Policy) -> Reason:
    if case.gain is None:
        return Reason("better", False, "no week was tested by both it and the champion")
    least = -policy.inferiority if case.kind == "refit" else 0.0
    gain = case.gain
    kept = gain.low >= least if case.kind == "refit" else gain.low > least
    asked = f"a refit needs at least {least:+.3f}" if case.kind == "refit" else "more than 0 is needed"
    return Reason(
        "better",
        kept,
        f"{case.gained} {gain.value:+.4f} against the champion (95 %: {gain.low:+.4f} to {gain.high:+.4f}; "
        f"{asked} at the lower end)",
    )


def _calibrated(case: Case, within: float, measure: Measure) -> Reason:
    said = measure.said_of_totals(case.expected, case.observed)
    if not case.observed:
        return Reason("calibrated", False, said)
    kept = abs(case.expected / case.observed - 1) <= within
    return Reason("calibrated", kept, f"{said} (within {within:.0%} is asked)")


def _slices(case: Case, policy: Policy, measure: Measure) -> Reason:
    judged = [part for part in case.slices if part.positives >= policy.slice_positives]
    worse = [part for part in judged if part.gain < -policy.slice_tolerance]
    if not worse:
        return Reason(
            "slices", True, f"no slice of {len(judged)} is worse by more than {policy.slice_tolerance:g}"
        )
    named = ", ".join(
        f"{part.name} ({part.gain:+.3f} over {part.positives:,} {measure.counted})" for part in worse
    )
    return Reason("slices", False, f"worse by more than {policy.slice_tolerance:g} where {named}")


def figures_of(verdict: Mapping[str, Any]) -> str:
    """A stored verdict in one line; nothing for a rollback, which has none."""
    if not verdict:
        return ""
    gain, observed = verdict["gain"], verdict["observed"]
    parts = [verdict["kind"]]
    if gain:
        gained = verdict.get("gained", AVERAGE_PRECISION.gained)
        parts.append(f"{gained} {gain['value']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})")
    if observed:
        parts.append(f"calibration {verdict['expected'] / observed:.3f}")
    return ", ".join(parts)
