"""Looking after champions: how each does since its promotion, and the way back where it breaches a limit."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import polars as pl

from my_platform.errors import DamagedBundle, DamagedObject, PlatformError
from my_platform.learning.bundle import Bundle, read_bundle
from my_platform.learning.contender import Contender
from my_platform.learning.health import Health, InService, breaches, score_classes
from my_platform.learning.ledger import Line, Served, standing_of
from my_platform.operations.models import Models
from my_platform.quality.drift import chance_index, stability_index

WATCH = "watch"
_ROWS_SCORED = 5000


@dataclass(frozen=True)
class Looked:
    """What came of a look at a champion.

    Attributes:
        breached: what is beyond its limit, in words.
        line: the rollback that followed; None where there was no need or no way.
        hindered: why a champion that should go stays.
    """

    use: str
    champion: Served
    health: Health
    breached: list[str]
    line: Line | None = None
    hindered: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "use": self.use,
            "champion": f"{self.champion.model}@{self.champion.week}",
            "health": self.health.as_json(),
            "breached": self.breached,
            "rolled_back_to": f"{self.line.after.model}@{self.line.after.week}" if self.line else None,
            "hindered": self.hindered,
        }


def look_after(
    models: Models, *, service: Path | None, act: bool, alert: Callable[[str], None]
) -> list[Looked]:
    """Look at the champion of each use, and go back to the former one where it breaches a limit.

    A champion that came back by a rollback is not rolled back again: what ails the next one too is for a person.

    Args:
        service: the file in which a service tells how it does, if there is one.
        act: whether to roll back, or only to say.
        alert: told of each breach and of what was done.
    """
    found = []
    lines = models.registry.ledger.by_use()
    for use in models.uses:
        standing = standing_of(lines.get(use, ()))
        if standing.champion is None:
            continue
        looked = _look(models, use, standing.champion, service)
        if looked.breached:
            looked = _answered(models, looked) if act else looked
            alert(_said(looked))
        found.append(looked)
    return found


def health_of(models: Models, champion: Served, service: Path | None) -> Health:
    """How a champion does since its promotion."""
    contender = models.contenders.get(champion.model)
    try:
        bundle = read_bundle(models.registry.bundles, champion.bundle)
    except DamagedBundle as error:
        return Health(unreadable=[str(error)], service=in_service(service, champion))
    if contender is None or models.weekly.recipe(champion.model) != champion.recipe:
        # What its asset makes now comes of other code, and tells nothing of it.
        return Health(service=in_service(service, champion))
    try:
        return _of_tests(models, contender, champion, bundle, in_service(service, champion))
    except DamagedObject as error:
        return Health(unreadable=[str(error)], service=in_service(service, champion))


def _of_tests(
    models: Models,
    contender: Contender,
    champion: Served,
    bundle: Bundle,
    service: InService | None,
) -> Health:
    """From its recipe's weekly tests, and what itself says of their rows."""
    weekly = models.weekly
    # A week whose rows were withdrawn since tells nothing any more.
    there = weekly.current(contender.test_set)
    then = {
        week: weekly.rows(contender, week, version)
        for week, version in bundle.about["tested"].items()
        if week in there
    }
    measure = contender.measure
    then = {week: rows for week, rows in then.items() if measure.tells(rows)}
    if not then:
        return Health(service=service)
    last = max(then)
    since = {week: version for week, version in weekly.of_recipe(contender).items() if week > last}
    rows_since = {week: weekly.rows(contender, week, since[week]) for week in sorted(since)}
    index, latest = score_drift(models, contender, champion.week, bundle.files)
    return Health(
        promoted_on=fmean(measure.value(rows) for rows in then.values()),
        matured=[(week, measure.interval(rows)) for week, rows in rows_since.items() if measure.tells(rows)],
        score_index=index,
        scored_week=latest,
        service=service,
    )


def score_drift(
    models: Models, contender: Contender, own_week: str, files: Mapping[str, bytes]
) -> tuple[float | None, str]:
    """How far a model's scores of the latest week have moved from those of its first, and that week.

    Of one model, since each week's own has other levels of scores; and of weeks from its own on, since it was fitted on
    earlier ones and is surer there.
    """
    first, *later = [
        week for week in sorted(models.weekly.current(contender.test_set)) if week >= own_week
    ] or [""]
    if not later:
        return None, ""
    score = contender.load(files)
    before, scores = (
        pl.Series(score(_some(models.weekly.features(contender, week)))) for week in (first, later[-1])
    )
    shares, wanted = score_classes(before, scores)
    return max(0.0, stability_index(shares, wanted, scores.len()) - chance_index(scores.len())), later[-1]


def _look(models: Models, use: str, champion: Served, service: Path | None) -> Looked:
    health = health_of(models, champion, service)
    contender = models.contenders.get(champion.model)
    breached = breaches(health, contender.policy.limits, contender.measure) if contender else []
    return Looked(use, champion, health, breached)


def _answered(models: Models, looked: Looked) -> Looked:
    """Roll back, where that can help."""
    last = models.registry.ledger.lines(looked.use)[-1]
    if last.action == "rollback":
        why = f"it came back by a rollback at {last.at}; a person has to look"
        return replace(looked, hindered=why)
    try:
        line = models.registry.roll_back(
            looked.use,
            who=WATCH,
            why="; ".join(looked.breached),
            place=models.workspace.landing.place,
        )
    except PlatformError as error:
        return replace(looked, hindered=str(error))
    models.registry.set_aliases(looked.use)
    return replace(looked, line=line)


def _said(looked: Looked) -> str:
    named = f"{looked.champion.model} {looked.champion.week}, champion of {looked.use},"
    done = "look at it"
    if looked.line is not None:
        done = f"{looked.line.after.model} {looked.line.after.week} serves again"
    elif looked.hindered:
        done = f"it stays: {looked.hindered}"
    return f"{named} breaches its limits: {'; '.join(looked.breached)}. {done}"


def in_service(path: Path | None, champion: Served) -> InService | None:
    """What a service says, if it serves this champion."""
    if path is None:
        return None
    try:
        said = InService(**json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return said if said.bundle == champion.bundle else None


def _some(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows at equal steps, enough to tell a distribution by."""
    return rows.gather_every(max(1, rows.height // _ROWS_SCORED))
