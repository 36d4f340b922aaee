"""What there is to alert of, from what the platform knows. Pure: no I/O, no clock, no Dagster.

A *condition* holds for a while: a refused partition, a failed check, a missing day. A *moment* happens once: a run
failed, a model was promoted. Both have a key, by which they are the same alert whenever they are seen again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from my_platform.learning.ledger import Line, Served
from my_platform.operations.audit.trends import Trend

Severity = Literal["info", "warning", "error"]
Kind = Literal[
    "run_failed",
    "refused",
    "unreadable",
    "check",
    "drift",
    "freshness",
    "health",
    "budget",
    "trend",
    "promotion",
    "rollback",
    "test",
]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error")
# Checks that hold a distribution, or scores, against those of before.
DRIFTS = frozenset({"drift", "label_drift", "served_scores", "served_labels"})


@dataclass(frozen=True)
class Alert:
    """Something that somebody has to know.

    Attributes:
        key: the same alert has the same one.
        said: what happened, in words.
        asset, partition, run_id: where, as far as it is anywhere.
        command: the next step.
    """

    key: str
    kind: Kind
    severity: Severity
    said: str
    command: str
    asset: str = ""
    partition: str = ""
    run_id: str = ""


@dataclass(frozen=True)
class Refusal:
    """A partition whose present inputs are refused."""

    asset: str
    partition: str
    reason: str


@dataclass(frozen=True)
class FailedCheck:
    """A check that the current value of a partition does not pass.

    Attributes:
        listed: whether `my-platform checks` has it, as it has those of tables that are watched.
    """

    asset: str
    partition: str
    check: str
    severity: Literal["warn", "error"]
    said: str
    run_id: str = ""
    listed: bool = True


@dataclass(frozen=True)
class FailedRun:
    """A run that ended as failed.

    Attributes:
        asked: what asked for it; attempts at the same, and the runs of one backfill, have the same. Its own id where
            nothing did.
        problems: what it could not compute, in the words of the platform; none where it broke off otherwise.
    """

    run_id: str
    job: str
    asked: str
    said: str
    problems: Sequence[str] = ()


@dataclass(frozen=True)
class Ailing:
    """A champion that is beyond its limits, or cannot be read."""

    use: str
    champion: str
    said: Sequence[str]


@dataclass(frozen=True)
class Known:
    """What the platform knows.

    Attributes:
        unusable: by path in landing, why a file or a folder cannot be taken at all.
        missing: by raw table, the days that are due and have not landed.
        spent: processor seconds by UTC day, of the days that have a budget.
        budget_cpu_s: processor seconds that a day may cost; None for any.
        over_budget: by use, what its champion takes beyond its declared budget, in words.
        failed_runs, promotions: since the last look.
        trends: what takes more per row from week to week.
    """

    refused: Sequence[Refusal] = ()
    unusable: Mapping[str, str] = field(default_factory=dict)
    failed_checks: Sequence[FailedCheck] = ()
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ailing: Sequence[Ailing] = ()
    spent: Mapping[str, float] = field(default_factory=dict)
    budget_cpu_s: float | None = None
    over_budget: Mapping[str, Sequence[str]] = field(default_factory=dict)
    failed_runs: Sequence[FailedRun] = ()
    promotions: Sequence[Line] = ()
    trends: Sequence[Trend] = ()


def conditions(known: Known) -> list[Alert]:
    """What holds now; one alert a key."""
    found = [
        *_refused(known),
        *_unusable(known),
        *map(_check, known.failed_checks),
        *_missing(known),
        *map(_ailing, known.ailing),
        *_budgets(known),
        *map(_trend, known.trends),
    ]
    return list({alert.key: alert for alert in found}.values())


def moments(known: Known) -> list[Alert]:
    """What has happened since the last look; one alert a key.

    A run that failed for nothing but refused partitions is told by those.
    """
    refused = {refusal.reason for refusal in known.refused}
    found = [
        *(_run(run) for run in known.failed_runs if not run.problems or not refused.issuperset(run.problems)),
        *map(_promotion, known.promotions),
    ]
    return list({alert.key: alert for alert in found}.values())


def cannot_look(reason: str) -> Alert:
    """That nobody can tell how the platform does."""
    said = f"the platform cannot be looked at, and what happens in it is not told. {reason}"
    return Alert("look", "unreadable", "error", said, "my-platform plan")


def _unusable(known: Known) -> Iterator[Alert]:
    for path, reason in known.unusable.items():
        yield Alert(f"unusable {path}", "unreadable", "error", reason, "my-platform refresh")


def _refused(known: Known) -> Iterator[Alert]:
    run_of = {problem: run.run_id for run in known.failed_runs for problem in run.problems}
    for refusal in known.refused:
        where = _words(refusal.asset, refusal.partition)
        yield Alert(
            f"refused {where}",
            "refused",
            "error",
            f"{where} is refused, and the last good version stays current. {refusal.reason}",
            f"my-platform why {where}",
            refusal.asset,
            refusal.partition,
            run_of.get(refusal.reason, ""),
        )


def _check(failed: FailedCheck) -> Alert:
    where = _words(failed.asset, failed.partition)
    return Alert(
        f"check {failed.check} of {where}",
        "drift" if failed.check in DRIFTS else "check",
        "error" if failed.severity == "error" else "warning",
        f"the check {failed.check} of {where} fails. {failed.said}".rstrip(),
        f"my-platform {'checks' if failed.listed else 'why'} {where}",
        failed.asset,
        failed.partition,
        failed.run_id,
    )


def _missing(known: Known) -> Iterator[Alert]:
    for asset, days in known.missing.items():
        for day in days:
            yield Alert(
                f"missing {asset} {day}",
                "freshness",
                "error",
                f"{asset} {day} did not land by the hour it is due",
                "my-platform plan",
                asset,
                day,
            )


def _ailing(ailing: Ailing) -> Alert:
    said = f"{ailing.champion}, champion of {ailing.use}, breaches its limits: {'; '.join(ailing.said)}"
    return Alert(f"health {ailing.use} {ailing.champion}", "health", "error", said, "my-platform health")


def _budgets(known: Known) -> Iterator[Alert]:
    for day, spent_s in known.spent.items():
        if known.budget_cpu_s is not None and spent_s > known.budget_cpu_s:
            yield Alert(
                f"budget {day}",
                "budget",
                "warning",
                f"{spent_s:,.0f} processor seconds were spent on {day}, and {known.budget_cpu_s:,.0f} a day are allowed",
                "my-platform costs --by run",
            )
    for use, said in known.over_budget.items():
        if said:
            yield Alert(
                f"budget of the champion of {use}",
                "budget",
                "warning",
                f"the champion of {use} is beyond its budget: {'; '.join(said)}",
                "my-platform models",
            )


def _trend(trend: Trend) -> Alert:
    said = f"{trend.measure} of {trend.asset} grow: {trend.said}"
    key = f"trend {trend.asset} {trend.measure}"
    return Alert(key, "trend", "warning", said, "my-platform audit", trend.asset)


def _run(run: FailedRun) -> Alert:
    said = f"a run of {run.job} failed. {run.said}".rstrip()
    return Alert(f"run {run.asked}", "run_failed", "error", said, "my-platform refresh", run_id=run.run_id)


def _promotion(line: Line) -> Alert:
    after, before = (_served(served) for served in (line.after, line.before))
    if line.action == "rollback":
        said = f"{after} is champion of {line.use} again, {before} no more (by {line.who}: {line.why})"
        return Alert(f"rollback {line.use} {line.at}", "rollback", "warning", said, "my-platform models")
    forced = ", the gate overruled" if line.forced else ""
    said = f"{after} is champion of {line.use} now, before it {before}{forced} (by {line.who}: {line.why})"
    return Alert(
        f"promotion {line.use} {line.at} {after}", "promotion", "info", said, "my-platform promotions"
    )


def _served(served: Served | None) -> str:
    return f"{served.model}@{served.week}" if served is not None else "none"


def _words(asset: str, partition: str) -> str:
    return f"{asset} {partition}".strip()
