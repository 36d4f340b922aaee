"""Two models side by side, on the weekly tests that both were part of."""

from dataclasses import asdict
from typing import Any

import polars as pl

from my_platform.learning import evidence
from my_platform.learning.measure import Measure, figure
from my_platform.learning.registry import Candidate
from my_platform.operations.models import Models
from my_platform.operations.weekly_tests import Tests


def compare(models: Models, first: Candidate, second: Candidate) -> dict[str, Any]:
    """What the second model gains over the first, week by week and by slice, and the facts of each.

    Both recipes are judged by the last weeks that both were tested on and whose labels were known before the
    later of the two models' weeks.

    Raises:
        DamagedObject: a stored value is not whole.
    """
    before = max(first.week, second.week)
    contender = models.contender(second.model)
    predictions, theirs = _tests(models, first, before)
    ours = _tests(models, second, before)[1]
    weeks = sorted(theirs.keys() & ours.keys())[-contender.policy.weeks :]
    paired = [models.weekly.paired(contender, week, ours[week], predictions, theirs[week]) for week in weeks]
    measure = contender.measure
    gain = evidence.gain(paired, contender.policy, measure)
    return {
        "first": _facts(models, first),
        "second": _facts(models, second),
        "measure": {name: getattr(measure, name) for name in ("name", "short", "gained", "counted")},
        "same_recipe": first.recipe == second.recipe,
        "weeks": [_of_week(week, rows, measure) for week, rows in zip(weeks, paired, strict=True)],
        "gain": gain.as_json() if gain else None,
        "slices": [asdict(part) for part in evidence.slice_gains(paired, contender.columns.slices, measure)],
    }


def _tests(models: Models, candidate: Candidate, before: str) -> tuple[str, Tests]:
    """The asset of a model's predictions, and the tests of its recipe; those it was promoted on, if it served."""
    champion = models.served(candidate)
    if champion is not None:
        return models.weekly.of_champion(champion, models.contenders, models.registry, before)
    contender = models.contender(candidate.model)
    return contender.predictions, models.weekly.of_recipe(contender, before)


def _of_week(week: str, rows: pl.DataFrame, measure: Measure) -> dict[str, Any]:
    first, second = (figure(measure, rows, name) for name in (evidence.CHAMPION, "score"))
    return {"week": week, "rows": rows.height, **measure.counts(rows), "first": first, "second": second}


def _facts(models: Models, candidate: Candidate) -> dict[str, Any]:
    registered = models.registry.find(candidate)
    facts = registered.facts if registered is not None else {}
    told = ("training_set_digest", "metrics", "measured", "gate")
    return {
        "model": candidate.model,
        "week": candidate.week,
        "data_version": candidate.version,
        "recipe": candidate.recipe,
        **{name: facts[name] for name in told if name in facts},
    }
