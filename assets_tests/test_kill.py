"""Kill a refresh at random moments, or start two at once: what was committed stays, and nothing is done twice."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from assets_tests.homes import (
    FIRST,
    Versions,
    answer,
    call,
    copied_checkout,
    folder_in_memory,
    land,
    objects,
    session,
    start,
)
from my_platform.domains.fraud.simulator import land_correction
from my_platform.learning.tracking import Tracker
from my_platform.storage.sealed import check_seal

ENDED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
KILLS_A_HOME = 5
# After a stored value come its event and its head, or another value; before the first comes all that finds what is owed.
LINGER_S, STARTS_S = 0.3, 3
# Ten homes of five kills each.
FIRST_BUILDS, CORRECTIONS = range(1, 6), range(6, 11)


@dataclass
class Clean:
    """What a refresh that nobody disturbs makes of a landing."""

    home: Path
    code: Path
    landing: Path
    versions: Versions


@pytest.fixture(scope="module")
def clean() -> Iterator[Clean]:
    with folder_in_memory() as folder:
        code, landing = copied_checkout(folder / "code"), folder / "landing"
        land(landing, 28, customers=60, terminals=120)
        yield built(folder / "clean", code, landing)


@pytest.fixture(scope="module")
def corrected(clean: Clean) -> Clean:
    """The same after a correction of a day that most others read."""
    landing = clean.landing.with_name("corrected")
    shutil.copytree(clean.landing, landing)
    land_correction(landing, FIRST + timedelta(days=2))
    return built(clean.home.with_name("clean-corrected"), clean.code, landing)


def built(home: Path, code: Path, landing: Path) -> Clean:
    done = call(home, "refresh", code=code, landing_url=landing, boosting_rounds=10)
    assert done["failed"] == {}
    return Clean(home, code, landing, current(home))


def current(home: Path) -> Versions:
    with session(home) as opened:
        return opened.versions()


def partitions(paths: Iterable[Path]) -> Counter[tuple[str, str]]:
    """How many values are stored of each (asset, partition)."""
    named = (path.parent.as_posix().rsplit("/", 1) for path in paths)
    return Counter((asset, "" if partition == "all" else partition) for asset, partition in named)


def wait_for_values(process: subprocess.Popen[str], home: Path, more: int) -> None:
    """Wait until a process has stored so many values, or has ended: a moment that no other work on the machine moves."""
    before = len(objects(home))
    while process.poll() is None and len(objects(home)) < before + more:
        time.sleep(0.01)


def killed(process: subprocess.Popen[str], after_s: float, *, children: bool) -> bool:
    """Kill a process with or without its children; False if it had ended before."""
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        if children:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.communicate()
        return True
    return False


def check_whole(home: Path) -> None:
    """Every stored value can be read."""
    for path in (home / "lake").rglob("*.parquet"):
        check_seal(path.read_bytes(), str(path))


def check_tidy(home: Path, wanted: Clean) -> None:
    """No half-written file and no open run is left, and each model is tracked once."""
    left = [path for path in home.rglob("*") if ".tmp-" in path.name or ".half" in path.name]
    left += [path for path in home.rglob(".staging/**/*") if path.is_file()]
    assert left == []
    with session(home) as opened:
        assert {run.status for run in opened.instance.get_runs()} <= ENDED
    client = Tracker(home / "mlflow").client
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    tracked = Counter((run.data.tags.get("week"), run.data.tags.get("data_version")) for run in runs)
    assert tracked == Counter(wanted.versions["fraud_lightgbm"].items())
    assert {run.info.status for run in runs} == {"FINISHED"}


def kill_again_and_again(home: Path, wanted: Clean, seed: int) -> int:
    """Refresh with kills in between until it ends; the number of kills."""
    chance = random.Random(seed)
    how = {"code": wanted.code, "landing_url": wanted.landing, "boosting_rounds": 10}
    before = objects(home)
    share = len(set(objects(wanted.home)) - set(before)) // KILLS_A_HOME
    kills = 0
    for _ in range(KILLS_A_HOME):
        process = start(home, "refresh", "--json", **how)
        more = max(0, chance.randint(-share // 2, 2 * share))
        wait_for_values(process, home, more)
        after_s = chance.uniform(0, LINGER_S if more else STARTS_S)
        if not killed(process, after_s, children=chance.random() < 0.5):
            answer(process)
        else:
            kills += 1
        after = objects(home)
        assert before.items() <= after.items()
        before = after
    check_whole(home)

    done = call(home, "refresh", **how)

    assert done["failed"] == {}
    after = objects(home)
    computed = Counter((asset, key) for asset, keys in done["computed"].items() for key in keys)
    assert computed == partitions(set(after) - set(before))
    assert before.items() <= after.items()
    assert current(home) == wanted.versions
    return kills


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in FIRST_BUILDS)])
def test_a_first_build_that_is_killed_goes_on_where_it_was(clean: Clean, seed: int) -> None:
    with folder_in_memory() as folder:
        home = folder / "home"
        assert kill_again_and_again(home, clean, seed) > 1
        assert partitions(objects(home)) == Counter(
            (a, key) for a, keys in clean.versions.items() for key in keys
        )
        check_tidy(home, clean)


@pytest.mark.slow
@pytest.mark.parametrize("seed", CORRECTIONS)
def test_an_update_that_is_killed_goes_on_where_it_was(clean: Clean, corrected: Clean, seed: int) -> None:
    with folder_in_memory() as folder:
        home = folder / "home"
        shutil.copytree(clean.home, home)
        before = objects(home)
        assert kill_again_and_again(home, corrected, seed) > 1
        stored = partitions(set(objects(home)) - set(before))
        assert stored == partitions(set(objects(corrected.home)) - set(before))
        assert set(stored.values()) == {1}


@pytest.mark.slow
def test_two_refreshes_at_once_compute_each_partition_once(clean: Clean) -> None:
    with folder_in_memory() as folder:
        home = folder / "home"
        how = {"code": clean.code, "landing_url": clean.landing, "boosting_rounds": 10}
        both = [start(home, "refresh", "--json", **how) for _ in range(2)]
        computed = Counter(
            (asset, key)
            for done in map(answer, both)
            for asset, keys in done["computed"].items()
            for key in keys
        )
        assert computed == Counter((a, key) for a, keys in clean.versions.items() for key in keys)
        assert current(home) == clean.versions
        check_tidy(home, clean)


def test_going_back_to_old_parameters_computes_nothing(clean: Clean) -> None:
    with folder_in_memory() as folder:
        home = folder / "home"
        shutil.copytree(clean.home, home)
        how = {"code": clean.code, "landing_url": clean.landing}
        there = call(home, "refresh", boosting_rounds=11, **how)
        made = {"fraud_lightgbm", "fraud_lightgbm_onnx", "predictions", "evaluation"}
        assert set(there["computed"]) == made
        assert there["computed"]["fraud_lightgbm"] == list(clean.versions["fraud_lightgbm"])
        back = call(home, "refresh", boosting_rounds=10, **how)
        assert back["computed"] == {}
        assert back["reused"] == there["computed"]
        assert current(home) == clean.versions
