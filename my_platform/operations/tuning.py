"""Tuning a model of a home: over which weeks, on which stored data, and what comes of it."""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import polars as pl

from my_platform.errors import PlatformError
from my_platform.incremental.code import code_version
from my_platform.learning.contender import Contender
from my_platform.learning.ledger import now
from my_platform.learning.metrics import average_precision
from my_platform.learning.search_space import Parameters, Tuning
from my_platform.learning.tuning import Budget, Score, Search, TrialCost, Tuned, trial_costs, tune
from my_platform.operations.models import Models
from my_platform.settings import Settings
from my_platform.storage.choices import Choice, Choices
from my_platform.storage.trace_index import Cost

_FOLDS_IN_MEMORY = 16


@dataclass(frozen=True)
class Order:
    """What a person asks of a search.

    Attributes:
        model: the model asset.
        budget: how long it may go on.
        folds: the most weeks that are searched over, the last ones.
        kept_out: fully labelled weeks that are not looked at, the last ones: the gate judges by them.
        workers: processes that search side by side.
    """

    model: str
    budget: Budget
    folds: int
    kept_out: int
    seed: int = 1
    workers: int = 1


def searched(models: Models, settings: Settings, order: Order, log: Callable[[str], None]) -> Tuned | None:
    """Search for better parameters of a model; see ``learning.tuning``.

    Returns:
        None where the minutes were used up first; the next call goes on.

    Raises:
        PlatformError: the model cannot be tuned, or a worker failed.
        Refused: no week is left to search over.
    """
    search = search_of(models, order)
    journal, budget = journal_of(settings, order.model), order.budget
    if order.workers > 1:
        _side_by_side(settings, order)
        # The minutes were theirs.
        budget = replace(budget, minutes=0)
    score = scorer(models, models.contender(order.model), search)
    return tune(search, score, journal, budget, log=log)


def search_of(models: Models, order: Order) -> Search:
    """The search over the weeks of which everything is stored."""
    contender = models.contender(order.model)
    tuning = tuning_of(contender)
    trained = models.weekly.current(tuning.training_set)
    tested = models.weekly.current(contender.test_set)
    both = sorted(trained.keys() & tested.keys())
    weeks = both[: len(both) - order.kept_out][-order.folds :] if order.kept_out else both[-order.folds :]
    return Search(
        model=order.model,
        space=tuning.space,
        present=dict(tuning.present),
        folds={week: (trained[week], tested[week]) for week in weeks},
        code=code_version(tuning.fit),
        seed=order.seed,
    )


def scorer(models: Models, contender: Contender, search: Search) -> Score:
    """Average precision by week, parameters and seed, on stored training and test sets that are read once."""
    tuning, columns, lake = tuning_of(contender), contender.columns, models.workspace.lake

    @lru_cache(maxsize=_FOLDS_IN_MEMORY)
    def fold(week: str) -> tuple[pl.DataFrame, pl.DataFrame]:
        of_training, of_test = search.folds[week]
        wanted = (*columns.features, columns.label)
        return (
            lake.read(tuning.training_set, week, of_training),
            lake.read(contender.test_set, week, of_test, wanted),
        )

    def score(week: str, parameters: Parameters, seed: int) -> float:
        trained, tested = fold(week)
        scores = tuning.fit(trained, parameters, seed)(tested.select(columns.features))
        return average_precision(tested[columns.label], scores)

    return score


def adopt(models: Models, tuned: Tuned, model: str, who: str) -> str | None:
    """Make what a search found the parameters of a model; where it is, or None where the present ones are best."""
    tuning = tuning_of(models.contender(model))
    if dict(tuned.best) == dict(tuning.present):
        return None
    figures = {
        "average_precision": tuned.best_score,
        "present_average_precision": tuned.present_score,
        "seeds": list(tuned.seeds),
        "trials": dict(tuned.trials),
        "cpu_seconds": tuned.cost.cpu_s,
    }
    choice = Choice(model, tuned.best, list(tuned.folds), who, now(), tuned.study, figures)
    return Choices(models.workspace.landing.place).add(choice)


def withdraw(models: Models, model: str, who: str) -> str | None:
    """Go back to the parameters that the domain declares; where that is written, None where those count already."""
    tuning_of(models.contender(model))
    choices = Choices(models.workspace.landing.place)
    if choices.present(model) is None:
        return None
    return choices.add(Choice(model, {}, [], who, now()))


def tuning_of(contender: Contender) -> Tuning:
    """How a contender is tuned.

    Raises:
        PlatformError: its domain declares no search.
    """
    if contender.tuning is None:
        raise PlatformError(
            f"{contender.model} declares no parameters that may be searched; give its Contender a `tuning`"
        )
    return contender.tuning


def journal_of(settings: Settings, model: str) -> Path:
    """The file that holds the studies of a model."""
    return settings.studies / f"{model}.journal"


def study_costs(settings: Settings, models: Sequence[str]) -> list[Cost]:
    """What the trials of all studies took, as lines of the cost ledger: the study is the run."""
    found = []
    for model in models:
        for study, number, spent in trial_costs(journal_of(settings, model)):
            what = f"trial {number}" if number >= 0 else "final"
            found.append(_as_line(model, study, what, spent))
    return found


def _as_line(model: str, study: str, what: str, spent: TrialCost) -> Cost:
    fingerprint = hashlib.sha256(json.dumps([study, what]).encode()).hexdigest()
    return Cost(
        asset=f"{model} (tuning)",
        partition="",
        fingerprint=fingerprint,
        run_id=study,
        at_s=spent.at_s,
        wall_s=spent.wall_s,
        cpu_s=spent.cpu_s,
        peak_bytes=spent.peak_bytes,
        read_bytes=0,
        written_bytes=0,
    )


def _side_by_side(settings: Settings, order: Order) -> None:
    """Have other processes search too, until the trials are used up; each opens the home by itself."""
    with ProcessPoolExecutor(order.workers, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(_work, settings, order) for _ in range(order.workers)]:
            done.result()


def _work(settings: Settings, order: Order) -> None:
    from my_platform.learning.tuning import search_on
    from my_platform.operations import session

    with session.opened(settings) as opened:
        models = opened.models
        search = search_of(models, order)
        score = scorer(models, models.contender(order.model), search)
        search_on(search, score, journal_of(settings, order.model), order.budget, log=lambda _: None)
