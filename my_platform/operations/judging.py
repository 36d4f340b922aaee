"""Judging a candidate: from its weekly tests, its files and its checks to the gate's verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from my_platform.errors import DamagedObject
from my_platform.incremental.declare import Grain
from my_platform.learning import evidence
from my_platform.learning.budgets import Measured, measure, over_budget
from my_platform.learning.contender import Contender
from my_platform.learning.gate import Case, Kind, Verdict, judge
from my_platform.learning.ledger import Served
from my_platform.learning.registry import Candidate
from my_platform.learning.thresholds import OperatingCurve
from my_platform.operations.exports import Exported, NotExported, find_export
from my_platform.operations.online_budget import measure_with_features
from my_platform.operations.weekly_tests import Tests, WeeklyTests
from my_platform.storage.lake import Lake

_ROWS_SCORED_ONE_BY_ONE = 200
# An older difference than these days, of those that were served, keeps no model from being promoted.
_CONSISTENT_DAYS = 7


@dataclass(frozen=True)
class Rival:
    """Who serves, and the tests of its recipe."""

    served: Served
    predictions: str
    tests: Tests


@dataclass(frozen=True)
class Judged:
    """A verdict and what it rests on.

    Attributes:
        tests: the weekly tests that were looked at.
        threshold: the operating threshold, as the median over them; None where there are none, or it has no meaning.
        measured: what the model takes as it is served.
        files: of the bundle: the model's own, and what serves.
        native: what the model's own files take, where others serve.
        exported: what the bundle says of those others.
        curve: what each threshold would have had looked at in the same tests; None as well.
    """

    verdict: Verdict
    tests: Tests
    threshold: float | None
    measured: Measured | None
    files: Mapping[str, bytes]
    native: Measured | None = None
    exported: Mapping[str, Any] = field(default_factory=dict)
    curve: OperatingCurve | None = None


def judge_candidate(
    weekly: WeeklyTests, contender: Contender, candidate: Candidate, rival: Rival | None
) -> Judged:
    """The gate's verdict on a candidate; what cannot be read of it speaks against it."""
    policy, ruler, failed = contender.policy, contender.measure, []
    all_own = weekly.of_recipe(contender, candidate.week)
    own = {week: all_own[week] for week in sorted(all_own)[-policy.weeks :]}
    both = sorted(all_own.keys() & rival.tests.keys())[-policy.weeks :] if rival else []
    tested: list[pl.DataFrame] = []
    paired: list[pl.DataFrame] = []
    files: Mapping[str, bytes] = {}
    measured, native, exported = None, None, None
    over: list[str] = []
    try:
        tested = [weekly.rows(contender, week, version) for week, version in own.items()]
        if rival is not None:
            paired = [
                weekly.paired(contender, week, all_own[week], rival.predictions, rival.tests[week])
                for week in both
            ]
        files = _files(weekly.lake, candidate)
        exported = find_export(weekly, contender, candidate)
        if own:
            rows = weekly.features(contender, max(own)).head(_ROWS_SCORED_ONE_BY_ONE)
            fitted = _fitted(weekly.lake, candidate)
            if exported is not None:
                measured = replace(
                    measure(exported.files, exported.load, exported.one_by_one(rows), fitted),
                    with_features=measure_with_features(weekly, contender, exported.load(exported.files)),
                )
            native = measure(files, contender.load, [rows[at] for at in range(rows.height)], fitted)
            if measured is None:
                measured, native = native, None
            over = over_budget(measured, contender.budget)
        if exported is not None:
            files = {**files, **exported.files}
    except (DamagedObject, NotExported) as error:
        failed.append(str(error))
    unsound, warned = _failed_checks(weekly, contender, candidate, own, exported)
    expected, observed = ruler.totals(tested)
    case = Case(
        kind=_kind(candidate, rival, paired),
        weeks=list(own),
        expected=expected,
        observed=observed,
        compared=both,
        gain=evidence.gain(paired, policy, ruler),
        slices=evidence.slice_gains(paired, contender.columns.slices, ruler),
        over_budget=over,
        failed_checks=[*failed, *unsound],
        warnings=warned,
        gained=ruler.gained,
    )
    threshold, curve = ruler.operating(tested, contender.looked_at)
    about = exported.as_json() if exported else {}
    return Judged(judge(case, policy, ruler), own, threshold, measured, files, native, about, curve)


def _kind(candidate: Candidate, rival: Rival | None, paired: Sequence[pl.DataFrame]) -> Kind:
    """A change of code that moves no score is no new recipe."""
    if rival is None:
        return "first"
    same = candidate.model == rival.served.model and bool(paired) and evidence.scores_alike(paired)
    return "refit" if candidate.recipe == rival.served.recipe or same else "new recipe"


def _files(lake: Lake, candidate: Candidate) -> dict[str, bytes]:
    table = lake.read(candidate.model, candidate.week, candidate.version)
    return dict(table.select("name", "content").rows())


def _fitted(lake: Lake, candidate: Candidate) -> dict[str, float]:
    """What fitting a candidate took, as the cost ledger has it."""
    record = lake.record(candidate.model, candidate.week, candidate.version) or {}
    names = {"fit_s": "seconds", "fit_cpu_s": "cpu_seconds", "fit_gpu_s": "gpu_seconds"}
    return {name: float(record.get(said, 0.0)) for name, said in names.items()}


def _failed_checks(
    weekly: WeeklyTests,
    contender: Contender,
    candidate: Candidate,
    tests: Tests,
    exported: Exported | None,
) -> tuple[list[str], list[str]]:
    """What does not speak for the data behind a candidate, in words: failed checks, and those that only warn.

    They are those of the model and of the models that were tested, of what they were fitted on, of the tests, of the
    export, and of the last days of what holds served features against the offline ones.
    """
    record = weekly.lake.record(candidate.model, candidate.week, candidate.version)
    if record is None:
        return [f"no whole object holds {candidate.model} {candidate.week} {candidate.version[:12]}"], []
    tested = [(contender.predictions, week, version) for week, version in tests.items()]
    values = [(candidate.model, candidate.week, candidate.version), *tested]
    if exported is not None:
        values.append((exported.asset, candidate.week, exported.version))
    failed: list[str] = []
    warned: list[str] = []
    behind = [each for value in values for each in (value, *_weekly_inputs(weekly, *value))]
    for asset, partition, version in dict.fromkeys([*behind, *_last_days(weekly, contender)]):
        declared = weekly.project.assets.get(asset)
        severity = {check.name: check.severity for check in declared.own_checks} if declared else {}
        for result in (weekly.lake.record(asset, partition, version) or {}).get("checks", ()):
            if not result["passed"]:
                grave = (result.get("severity") or severity.get(result["check"], "error")) == "error"
                said = result.get("description") or "not passed"
                (failed if grave else warned).append(f"{asset} {partition}: check {result['check']}: {said}")
    return failed, warned


def _last_days(weekly: WeeklyTests, contender: Contender) -> list[tuple[str, str, str]]:
    """The last days of what has to be consistent for any model to serve."""
    return [
        (asset, day, weekly.current(asset)[day])
        for asset in contender.consistency
        for day in sorted(weekly.current(asset))[-_CONSISTENT_DAYS:]
    ]


def _weekly_inputs(
    weekly: WeeklyTests, asset: str, partition: str, version: str
) -> list[tuple[str, str, str]]:
    """What a weekly value was made from that is weekly too, with what that was made from."""
    found = []
    inputs = (weekly.lake.record(asset, partition, version) or {}).get("inputs", {})
    for name, versions in inputs.items():
        if name in weekly.project.assets and weekly.project.assets[name].grain is Grain.WEEK:
            for key, of_input in versions.items():
                found += [(name, key, of_input), *_weekly_inputs(weekly, name, key, of_input)]
    return found
