"""Tuning: a search for parameters by their average precision over weekly folds, with Optuna.

A fold is the training set and the test set of one week, as they are stored. The study lies in a file, so that a
search that was interrupted goes on where it was; each trial is drawn with a seed of its own, so that one that was
interrupted ends as one that was not. A trial is pruned when its mean over the folds so far is below the median of
the earlier trials at the same fold (Golovin et al.: Google Vizier, 2017). Proposals are those of the tree-structured
Parzen estimator (Bergstra et al.: Algorithms for Hyper-Parameter Optimization, 2011). The best trials and the
present choice meet again in a final over further seeds, since a best of many is partly luck.
"""

import hashlib
import json
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from my_platform.errors import PlatformError, Refused
from my_platform.learning.search_space import Parameters, Space

if TYPE_CHECKING:
    import optuna

FINALISTS = 3
FINAL_SEEDS = 3
_STARTUP_TRIALS = 8
_KIB = 1024
_COST, _PROCESS, _FINAL = "cost", "process", "final"

Score = Callable[[str, Parameters, int], float]
"""The average precision on the test of a week, of a model fitted for it with these parameters and this seed."""


@dataclass(frozen=True)
class Search:
    """What is searched, and over what.

    Attributes:
        model: the model asset.
        space: what may be chosen.
        present: the parameters that count now.
        folds: data versions of training set and test set by week, the earliest first.
        code: what the scores are computed by.
        seed: of the search and of the fits.
    """

    model: str
    space: Space
    present: Parameters
    folds: Mapping[str, tuple[str, str]]
    code: str
    seed: int = 1

    def __post_init__(self) -> None:
        for name, value in self.present.items():
            if name not in self.space or not self.space[name].holds(value):
                raise PlatformError(
                    f"{self.model}: its present {name}={value} is not within the space that is searched "
                    f"({self.space.get(name, 'no such parameter')}); widen the space"
                )

    @property
    def kind(self) -> str:
        """The same for searches whose trials can be told to one another."""
        space = {name: asdict(range_) for name, range_ in self.space.items()}
        return f"{self.model} {_digest([space, self.code])}"

    @property
    def name(self) -> str:
        """The name of its study: the same for the same search over the same data."""
        return f"{self.kind} {_digest([dict(self.folds), self.seed])}"


@dataclass(frozen=True)
class Budget:
    """How long a search may go on: trials of the whole study, and minutes of this call."""

    trials: int
    minutes: float


@dataclass(frozen=True)
class TrialCost:
    """What a trial took."""

    at_s: float
    wall_s: float
    cpu_s: float
    peak_bytes: int


@dataclass(frozen=True)
class Finalist:
    """Parameters that were in the final: their mean average precision over the folds by seed, and over the seeds."""

    parameters: Parameters
    by_seed: Sequence[float]
    mean: float


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        best: the parameters with the best mean in the final, which may be the present ones.
        present_score, best_score: mean average precision over folds and seeds of the final.
        finalists: all that met in the final, the best first.
        trials: how many there are of each state, in the whole study.
        seeds: those of the final.
        cost: of the whole study.
        folds: the weeks that it was played on.
    """

    study: str
    best: Parameters
    present_score: float
    best_score: float
    finalists: Sequence[Finalist]
    trials: Mapping[str, int]
    seeds: Sequence[int]
    cost: TrialCost
    folds: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def tune(
    search: Search, score: Score, journal: Path, budget: Budget, *, log: Callable[[str], None]
) -> Tuned | None:
    """Search until the budget is used up, then let the best meet the present choice.

    Several processes may search at once with the same search: they share its trials.

    Args:
        journal: the file that holds the studies of the model.

    Returns:
        None where the minutes were used up before the trials were.

    Raises:
        Refused: there is no fold, or the parameters in use cannot be fitted.
    """
    study = search_on(search, score, journal, budget, log=log)
    return None if _started(study) < budget.trials else _final(study, search, score, log)


def search_on(
    search: Search, score: Score, journal: Path, budget: Budget, *, log: Callable[[str], None]
) -> "optuna.Study":
    """The same without the final: the study, when its trials or the minutes are used up."""
    if not search.folds:
        raise Refused(
            f"{search.model}: no week is left to search over; wait for more labelled weeks or keep fewer out"
        )
    study = open_study(search, journal)
    until = time.monotonic() + budget.minutes * 60
    while _started(study) < budget.trials and time.monotonic() < until:
        _one_trial(study, search, score, log)
    return study


def open_study(search: Search, journal: Path) -> "optuna.Study":
    """The study of a search: the one that is there, or a new one that begins with what is known.

    That is the present choice, and the best of the latest other study of the same kind.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    storage = _storage(journal)
    known = [s for s in optuna.get_all_study_summaries(storage) if s.study_name.startswith(search.kind)]
    mine = any(summary.study_name == search.name for summary in known)
    study = optuna.create_study(
        study_name=search.name,
        storage=storage,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS),
        load_if_exists=True,
    )
    if not mine:
        study.enqueue_trial(dict(search.present))
        if known:
            last = max(known, key=lambda summary: str(summary.datetime_start))
            for trial in _best(optuna.load_study(study_name=last.study_name, storage=storage)):
                study.enqueue_trial(trial.params, skip_if_exists=True)
    _give_back_abandoned(study)
    return study


def trial_costs(journal: Path) -> Iterator[tuple[str, int, TrialCost]]:
    """What each trial and final of a model's studies took, with the study's name and the trial's number."""
    import optuna

    if not journal.exists():
        return
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = _storage(journal)
    for summary in optuna.get_all_study_summaries(storage):
        study = optuna.load_study(study_name=summary.study_name, storage=storage)
        for trial in study.trials:
            if _COST in trial.user_attrs:
                yield study.study_name, trial.number, TrialCost(**trial.user_attrs[_COST])
        for name, value in study.user_attrs.items():
            if name.startswith(_FINAL):
                yield study.study_name, -1, TrialCost(**value[_COST])


def _storage(journal: Path) -> "optuna.storages.JournalStorage":
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(journal)))


def _one_trial(study: "optuna.Study", search: Search, score: Score, log: Callable[[str], None]) -> None:
    import optuna

    study.sampler = optuna.samplers.TPESampler(
        seed=search.seed + _started(study),
        n_startup_trials=_STARTUP_TRIALS,
        multivariate=True,
        constant_liar=True,
    )
    trial = study.ask(_distributions(search.space))
    trial.set_user_attr(_PROCESS, _this_process())
    found: list[float] = []
    with _metered() as cost:
        for step, week in enumerate(search.folds):
            try:
                found.append(score(week, trial.params, search.seed))
            except Refused as error:
                trial.set_user_attr("refused", str(error))
                break
            trial.report(fmean(found), step)
            if len(found) < len(search.folds) and trial.should_prune():
                break
    trial.set_user_attr(_COST, asdict(cost[0]))
    trial.set_user_attr("folds", dict(zip(search.folds, found, strict=False)))
    if len(found) == len(search.folds):
        study.tell(trial, fmean(found))
        log(f"trial {trial.number}: {fmean(found):.4f} with {_said(trial.params)}")
    elif "refused" in trial.user_attrs:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        log(f"trial {trial.number}: {trial.user_attrs['refused']} with {_said(trial.params)}")
    else:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        log(f"trial {trial.number}: given up at {fmean(found):.4f} with {_said(trial.params)}")


def _final(study: "optuna.Study", search: Search, score: Score, log: Callable[[str], None]) -> Tuned:
    """The best trials and the present choice over further seeds; what was played is kept in the study."""
    rivals = [dict(search.present)]
    rivals += [dict(trial.params) for trial in _best(study) if trial.params != rivals[0]]
    seeds = [search.seed + number for number in range(FINAL_SEEDS)]
    rounds = []
    for parameters in rivals:
        attribute = f"{_FINAL} {_digest(parameters)}"
        if attribute not in study.user_attrs:
            with _metered() as cost:
                scores = [[score(week, parameters, seed) for week in search.folds] for seed in seeds]
            study.set_user_attr(attribute, {"scores": scores, _COST: asdict(cost[0])})
        played = study.user_attrs[attribute]
        means = [fmean(of_seed) for of_seed in played["scores"]]
        rounds.append(Finalist(parameters, means, fmean(means)))
        log(f"final: {fmean(means):.4f} over {len(seeds)} seeds with {_said(parameters)}")
    # Of equals the present choice stays: sorting is stable, and it comes first.
    ranked = sorted(rounds, key=lambda each: -each.mean)
    states = [trial.state.name.lower() for trial in study.get_trials(deepcopy=False)]
    costs = [TrialCost(**t.user_attrs[_COST]) for t in study.trials if _COST in t.user_attrs]
    costs += [TrialCost(**v[_COST]) for n, v in study.user_attrs.items() if n.startswith(_FINAL)]
    return Tuned(
        study=study.study_name,
        best=ranked[0].parameters,
        present_score=rounds[0].mean,
        best_score=ranked[0].mean,
        finalists=ranked,
        trials={state: states.count(state) for state in sorted(set(states))},
        seeds=seeds,
        cost=TrialCost(
            max(cost.at_s for cost in costs),
            sum(cost.wall_s for cost in costs),
            sum(cost.cpu_s for cost in costs),
            max(cost.peak_bytes for cost in costs),
        ),
        folds=tuple(search.folds),
    )


def _best(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    """The best trials of different parameters, the best first; of equals the earlier."""
    import optuna

    done = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    different: dict[str, optuna.trial.FrozenTrial] = {}
    for trial in sorted(done, key=lambda t: (-(t.value or 0.0), t.number)):
        different.setdefault(_digest(trial.params), trial)
    return list(different.values())[:FINALISTS]


def _started(study: "optuna.Study") -> int:
    """Trials that are done or under way; one that waits in the queue, or failed with its process, is not."""
    import optuna

    states = optuna.trial.TrialState
    trials = study.get_trials(deepcopy=False)
    return sum(
        t.state in (states.COMPLETE, states.PRUNED, states.RUNNING) or "refused" in t.user_attrs
        for t in trials
    )


def _give_back_abandoned(study: "optuna.Study") -> None:
    """Trials whose process is no more are done again, first."""
    import optuna

    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        owner = trial.user_attrs.get(_PROCESS)
        if owner is not None and owner["host"] == os.uname().nodename and not _lives(owner):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params)


def _this_process() -> dict[str, Any]:
    return {"host": os.uname().nodename, "pid": os.getpid(), "started": _started_at(os.getpid())}


def _lives(owner: Mapping[str, Any]) -> bool:
    return _started_at(owner["pid"]) == owner["started"]


def _started_at(pid: int) -> str:
    """When a process was started, in the system's ticks, so that another one with its number is told apart."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return ""


def _distributions(space: Space) -> dict[str, Any]:
    from optuna.distributions import FloatDistribution, IntDistribution

    return {
        name: IntDistribution(int(r.low), int(r.high), log=r.log)
        if r.whole
        else FloatDistribution(float(r.low), float(r.high), log=r.log)
        for name, r in space.items()
    }


@contextmanager
def _metered() -> Iterator[list[TrialCost]]:
    """Gives a list that holds what was spent, once the block has ended."""
    found: list[TrialCost] = []
    wall, cpu = time.perf_counter(), time.process_time()
    yield found
    found.append(
        TrialCost(
            round(time.time(), 3),
            round(time.perf_counter() - wall, 3),
            round(time.process_time() - cpu, 3),
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB,
        )
    )


def _said(parameters: Parameters) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in parameters.items())


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
