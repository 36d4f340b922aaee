"""Promotion: naming the challenger, letting the gate decide, and writing down who serves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from my_platform.errors import DamagedBundle, DamagedObject, PlatformError
from my_platform.incremental.declare import ordinal
from my_platform.learning.bundle import read_bundle, write_bundle
from my_platform.learning.gate_section import MARK, gate_section
from my_platform.learning.ledger import Line, Served, Standing, now
from my_platform.learning.model_card import with_budget
from my_platform.learning.registry import Candidate, Registered
from my_platform.operations.judging import Judged, Rival, judge_candidate
from my_platform.operations.models import Models
from my_platform.operations.outcome import Outcome
from my_platform.storage.lake import file_in
from my_platform.storage.landing import day_to_come
from my_platform.storage.objects import replace_file

GATE = "gate"
_MOST_TRIES = 20


@dataclass(frozen=True)
class Promotion:
    """What came of the wish to promote a candidate.

    Attributes:
        judged: the verdict; None where it serves already.
        line: what was written to the ledger; None where nothing was.
    """

    candidate: Candidate
    judged: Judged | None
    line: Line | None

    @property
    def serves(self) -> bool:
        """Whether the candidate is champion now."""
        return self.line is not None or self.judged is None

    def as_json(self) -> dict[str, Any]:
        """The shape that the command line prints."""
        judged = self.judged
        return {
            "promoted": self.line is not None,
            "serves": self.serves,
            "use": self.candidate.use,
            "name": self.candidate.model,
            "week": self.candidate.week,
            "version": self.candidate.version,
            "bundle": self.line.after.bundle if self.line else None,
            "forced": bool(self.line and self.line.forced),
            "gate": judged.verdict.as_json() if judged else None,
            "measured": judged.measured.as_json() if judged and judged.measured else None,
            "measured_native": judged.native.as_json() if judged and judged.native else None,
        }


def judge(models: Models, candidate: Candidate, standing: Standing) -> Judged:
    """The gate's verdict on a candidate, against who serves."""
    champion, rival = standing.champion, None
    if champion is not None:
        tests = models.weekly.of_champion(champion, models.contenders, models.registry, candidate.week)
        rival = Rival(champion, *tests)
    return judge_candidate(models.weekly, models.contender(candidate.model), candidate, rival)


def promote(models: Models, candidate: Candidate, *, who: str, why: str, forced: bool = False) -> Promotion:
    """Make a candidate champion if the gate lets it pass, or a person overrules what may be overruled."""
    for _ in range(_MOST_TRIES):
        standing = models.registry.ledger.standing(candidate.use)
        if _serves(models, candidate, standing):
            return Promotion(candidate, None, None)
        judged = judge(models, candidate, standing)
        registered = _tell(models, candidate, judged)
        _show(models, candidate, standing.champion, judged)
        overruled = forced and not judged.verdict.passed
        if not judged.verdict.passed and not (overruled and judged.verdict.can_be_forced):
            return Promotion(candidate, judged, None)
        contender = models.contender(candidate.model)
        about = _about(models, candidate, judged, why if overruled else "")
        served = Served(
            candidate.model,
            candidate.week,
            candidate.version,
            candidate.recipe,
            write_bundle(models.registry.bundles, about, judged.files),
            registered.number if registered else "",
        )
        line = Line(
            now(),
            who,
            "promote",
            candidate.use,
            why,
            standing.champion,
            served,
            overruled,
            judged.verdict.as_json(),
            judged.measured.as_json() if judged.measured else {},
            day_to_come(models.workspace.landing.place, contender.rows),
        )
        # Where another promotion came in between, the candidate is judged anew, against its champion.
        if models.registry.ledger.append(line, standing):
            models.registry.set_aliases(candidate.use)
            return Promotion(candidate, judged, line)
    raise PlatformError(f"{candidate.use} was promoted {_MOST_TRIES} times while this was tried; try again")


def put_forward(models: Models, outcome: Outcome, *, run_id: str, log: Callable[[str], None]) -> None:
    """After a run that touched models or their tests: promote by the gate, and name the challengers."""
    touched = {*outcome.computed, *outcome.reused}
    for use in sorted({c.use for c in models.contenders.values() if touched & set(c.assets)}):
        latest = models.latest(use)
        champion = _by_gate(models, latest, run_id, log) if models.registry.promotes else None
        challenger = next((candidate for candidate in latest if candidate != champion), None)
        registered = models.registered(challenger) if challenger is not None else None
        models.registry.set_aliases(use, registered.number if registered else "")


def _tell(models: Models, candidate: Candidate, judged: Judged) -> Registered | None:
    """Put the verdict, and what the model takes, into the registry and onto its card."""
    registered = models.registered(candidate)
    if registered is not None:
        against = "; ".join(judged.verdict.against)
        facts: dict[str, Any] = {"gate": f"refused: {against}" if against else "passed"}
        card = registered.card
        if judged.measured is not None:
            facts["measured"] = judged.measured.as_json()
            budget = models.contender(candidate.model).budget
            card = with_budget(card, judged.measured, budget, judged.native)
        models.registry.tell(registered, facts, card)
    return registered


def _show(models: Models, candidate: Candidate, champion: Served | None, judged: Judged) -> None:
    """Put the verdict into the report of the last week that it rests on, as far as there is one."""
    week = max(judged.tests, default="")
    contender = models.contender(candidate.model)
    evaluated = models.weekly.current(contender.evaluation).get(week)
    tested = models.weekly.current(candidate.model).get(week)
    if evaluated is None or tested is None:
        return
    of_week = models.registry.find(Candidate(candidate.use, candidate.model, week, tested, candidate.recipe))
    report = of_week.facts.get("report") if of_week is not None else None
    if report is None:
        return
    try:
        html = file_in(models.workspace.lake.read(contender.evaluation, week, evaluated), "report.html")
    except DamagedObject:
        return
    named = f"{champion.model} {champion.week}" if champion is not None else None
    section = gate_section(f"{candidate.model} {candidate.week}", named, judged.verdict, contender.measure)
    replace_file(Path(report), html.decode().replace(MARK, section).encode())


def _by_gate(
    models: Models, candidates: Sequence[Candidate], run_id: str, log: Callable[[str], None]
) -> Candidate | None:
    """The first of the candidates that the gate lets pass, or that serves already."""
    for candidate in candidates:
        named = f"{candidate.model} {candidate.week}"
        reason = _rolled_back(models, candidate)
        if reason:
            log(f"{named} is not promoted: {reason}")
            continue
        reason = models.workspace.why_fitted(candidate.model, ordinal(candidate.week))
        because = f"; fitted because: {reason}" if reason else ""
        done = promote(models, candidate, who=GATE, why=f"after run {run_id}{because}")
        if done.serves:
            log(f"{named} is champion of {candidate.use}")
            return candidate
        assert done.judged is not None
        log(f"{named} is not promoted: {'; '.join(done.judged.verdict.against)}")
    return None


def _rolled_back(models: Models, candidate: Candidate) -> str:
    """Why the gate alone must not promote a candidate: a person went back from it or from its recipe."""
    reason = ""
    for line in models.registry.ledger.lines(candidate.use):
        gone = line.before if line.action == "rollback" else None
        if gone is not None and gone.version == candidate.version:
            reason = f"it was rolled back at {line.at} ({line.why}); only a person promotes it again"
        elif gone is not None and gone.recipe == candidate.recipe != line.after.recipe:
            reason = f"its recipe was rolled back at {line.at} ({line.why}); only a person promotes it again"
        elif line.action == "promote" and line.who != GATE and line.after.recipe == candidate.recipe:
            reason = ""
    return reason


def _serves(models: Models, candidate: Candidate, standing: Standing) -> bool:
    """Whether a candidate is champion already, with a bundle that is whole."""
    champion = standing.champion
    wanted = (candidate.model, candidate.week, candidate.version)
    if champion is None or (champion.model, champion.week, champion.version) != wanted:
        return False
    try:
        read_bundle(models.registry.bundles, champion.bundle)
    except DamagedBundle:
        return False
    return True


def _about(models: Models, candidate: Candidate, judged: Judged, overruled: str) -> dict[str, Any]:
    """What a bundle says of its champion; no clock and no timing is in it."""
    contender, lake = models.contender(candidate.model), models.workspace.lake
    record = lake.record(candidate.model, candidate.week, candidate.version) or {}
    code_of = models.workspace.project.code_of
    return {
        "use": candidate.use,
        "model": candidate.model,
        "week": candidate.week,
        "data_version": candidate.version,
        "fingerprint": record.get("fingerprint"),
        "recipe": candidate.recipe,
        # Predictions are what is made while serving: their code is that of the features, and of the scoring.
        "code": {
            **code_of(contender.predictions),
            **(code_of(contender.export) if contender.export else {}),
        },
        "inputs": record.get("inputs"),
        "features": list(contender.columns.features),
        "predictions": contender.predictions,
        "rows": contender.rows,
        **({"export": dict(judged.exported)} if judged.exported else {}),
        "tested": dict(judged.tests),
        "gate": {"figures": judged.verdict.as_json(), "overruled": overruled},
        "operating_threshold": {"looked_at_a_day": contender.looked_at, "score": judged.threshold},
        **({"operating_curve": judged.curve.as_json()} if judged.curve else {}),
    }
