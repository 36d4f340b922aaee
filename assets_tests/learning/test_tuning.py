"""Searching for parameters: what is found, what is spent, and what an interruption leaves."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from my_platform.errors import PlatformError, Refused
from my_platform.learning.search_space import Parameters, Range
from my_platform.learning.tuning import Budget, Score, Search, Tuned, open_study, trial_costs, tune

SPACE = {"depth": Range(1, 50), "rate": Range(0.01, 1.0, log=True)}
PRESENT = {"depth": 40, "rate": 0.9}
FOLDS = {f"2025-02-{day:02}": (f"trained {day}", f"tested {day}") for day in (5, 12, 19)}

TRIALS = 24


def search(**given: object) -> Search:
    return Search(**{"model": "m", "space": SPACE, "present": PRESENT, "folds": FOLDS, "code": "c", **given})  # type: ignore[arg-type]


def quality(week: str, parameters: Parameters, seed: int) -> float:
    """Best at depth 20 and rate .1; a little different from week to week and seed to seed."""
    off = abs(parameters["depth"] - 20) / 50 + abs(parameters["rate"] - 0.1)
    return round(1 - off / 3 + int(week[-2:]) / 1000 + seed / 10_000, 9)


def counted(score: Score) -> tuple[Score, list[tuple[str, int]]]:
    calls: list[tuple[str, int]] = []

    def score_and_count(week: str, parameters: Parameters, seed: int) -> float:
        calls.append((week, seed))
        return score(week, parameters, seed)

    return score_and_count, calls


def run(
    folder: Path, score: Score = quality, *, trials: int = TRIALS, minutes: float = 10, **given: object
) -> Tuned | None:
    return tune(search(**given), score, folder / "m.journal", Budget(trials, minutes), log=lambda _: None)


def found(folder: Path, *args: Score, **given: object) -> Tuned:
    tuned = run(folder, *args, **given)  # type: ignore[arg-type]
    assert tuned is not None
    return tuned


def drawn(folder: Path) -> list[dict[str, float]]:
    """The parameters of the trials that ended by themselves, in their order."""
    study = open_study(search(), folder / "m.journal")
    return [trial.params for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]


def test_better_parameters_are_found_and_beat_the_present_ones_over_all_seeds(tmp_path: Path) -> None:
    tuned = found(tmp_path)

    assert tuned.best_score > tuned.present_score
    assert dict(tuned.best) != PRESENT
    assert len(tuned.finalists[0].by_seed) == len(tuned.seeds) == 3
    assert tuned.trials["complete"] + tuned.trials.get("pruned", 0) == TRIALS


def test_the_present_parameters_stay_where_nothing_is_better(tmp_path: Path) -> None:
    tuned = found(tmp_path, lambda week, parameters, seed: 0.5)

    assert dict(tuned.best) == PRESENT


def test_a_trial_that_falls_behind_is_not_fitted_on_the_remaining_weeks(tmp_path: Path) -> None:
    score, calls = counted(quality)

    tuned = found(tmp_path, score)

    assert tuned.trials["pruned"] > 0
    in_trials = [week for week, _ in calls][: -len(tuned.finalists) * len(tuned.seeds) * len(FOLDS)]
    assert len(in_trials) < TRIALS * len(FOLDS)


def test_the_same_search_again_fits_nothing_and_finds_the_same(tmp_path: Path) -> None:
    first = found(tmp_path)
    score, calls = counted(quality)

    again = found(tmp_path, score)

    assert calls == []
    assert again == first


def test_a_search_in_many_parts_ends_as_one_in_one_go(tmp_path: Path) -> None:
    whole = found(tmp_path / "whole")
    for trials in range(1, TRIALS):
        run(tmp_path / "parts", trials=trials)

    parts = found(tmp_path / "parts")

    assert drawn(tmp_path / "parts") == drawn(tmp_path / "whole")
    assert parts.finalists == whole.finalists


def test_a_trial_whose_process_was_killed_is_done_again(tmp_path: Path) -> None:
    whole = found(tmp_path / "whole")
    program = f"""
        import os
        from assets_tests.learning.test_tuning import quality, run
        from pathlib import Path
        left = [26]
        def dies(week, parameters, seed):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), 9)
            return quality(week, parameters, seed)
        run(Path({str(tmp_path / "killed")!r}), dies)
    """
    died = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=Path(__file__).parents[2], check=False
    )

    killed = found(tmp_path / "killed")

    assert died.returncode == -9
    assert drawn(tmp_path / "killed") == drawn(tmp_path / "whole")
    assert killed.finalists == whole.finalists
    assert killed.trials["fail"] == 1


def test_new_weeks_begin_with_the_best_of_the_last_search(tmp_path: Path) -> None:
    best = found(tmp_path).finalists[0].parameters
    later = {**dict(list(FOLDS.items())[1:]), "2025-02-26": ("trained 26", "tested 26")}

    study = open_study(search(folds=later), tmp_path / "m.journal")

    queued = [trial.system_attrs["fixed_params"] for trial in study.trials]
    assert queued[0] == PRESENT
    assert best in queued


def test_another_space_does_not_begin_with_what_was_found_in_this_one(tmp_path: Path) -> None:
    found(tmp_path)

    study = open_study(search(space={**SPACE, "depth": Range(1, 60)}), tmp_path / "m.journal")

    assert [trial.system_attrs["fixed_params"] for trial in study.trials] == [PRESENT]


def test_parameters_that_cannot_be_fitted_are_a_failed_trial_and_no_end(tmp_path: Path) -> None:
    def refusing(week: str, parameters: Parameters, seed: int) -> float:
        if parameters["depth"] < 15:
            raise Refused("too flat")
        return quality(week, parameters, seed)

    tuned = found(tmp_path, refusing)

    assert tuned.trials["fail"] > 0
    assert tuned.best["depth"] >= 15


def test_what_each_trial_took_is_kept(tmp_path: Path) -> None:
    tuned = found(tmp_path)

    costs = list(trial_costs(tmp_path / "m.journal"))

    assert len([number for _, number, _ in costs if number >= 0]) == TRIALS
    assert len([number for _, number, _ in costs if number < 0]) == len(tuned.finalists)
    assert sum(cost.wall_s for _, _, cost in costs) == pytest.approx(tuned.cost.wall_s)


def test_present_parameters_outside_of_the_space_are_refused() -> None:
    with pytest.raises(PlatformError, match="depth=99 is not within the space"):
        search(present={"depth": 99, "rate": 0.1})


def test_a_search_that_runs_out_of_time_says_that_it_is_not_over(tmp_path: Path) -> None:
    assert run(tmp_path, minutes=0) is None
    assert drawn(tmp_path) == []


def test_a_search_without_weeks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no week is left"):
        run(tmp_path, folds={})
