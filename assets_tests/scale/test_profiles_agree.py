"""One landing, three profiles: the same data versions in all, whoever computes them and whoever is killed meanwhile.

With HANDBOOK=FOLDER the builds are of the Handbook's days; else of simulated ones.
"""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets_tests.homes import Versions, answer, folder_in_memory, land, session, start
from assets_tests.operations import shop
from assets_tests.operations.served import served
from assets_tests.ray_cluster import Node, ray_cluster
from assets_tests.scale import gpu_shop
from assets_tests.scale.places import place, s3_server
from my_platform.domains.fraud.handbook import import_handbook
from my_platform.operations.heads import asset_key
from my_platform.operations.orphans import PROCESS_TAG
from my_platform.operations.session import Session, opened
from my_platform.storage.backfill_book import BackfillBook

pytestmark = pytest.mark.scale

DAYS, KILLS = 28, 10
SMALL = {"training_window_days": 14, "boosting_rounds": 10}
EVERYTHING = "*"
ENGINE_EVENT = dg.DagsterEventType.ENGINE_EVENT
_PATIENCE_S = 7200.0


@dataclass(frozen=True)
class Landed:
    """Days that have landed, and what a refresh of the profile embedded makes of them."""

    landing: Path
    truth: Versions
    settings: Mapping[str, Any]


@pytest.fixture(scope="module")
def landed() -> Iterator[Landed]:
    with folder_in_memory() as folder:
        landing, given = folder / "home" / "landing", os.environ.get("MY_PLATFORM_HANDBOOK")
        settings: dict[str, Any] = {}
        if given:
            import_handbook(Path(given), landing)
        else:
            land(landing, DAYS, customers=60, terminals=120)
            settings = SMALL
        yield Landed(landing, built(folder / "home", settings), settings)


def built(home: Path, settings: Mapping[str, Any]) -> Versions:
    """What is current after a refresh that finds nothing wrong."""
    told = ordered(home, "refresh", **settings)
    assert told["failed"] == {}
    return current(home)


def ordered(home: Path, *words: str, **settings: Any) -> Any:
    """What a command answers that may take long."""
    return answer(start(home, *words, "--json", **settings), within_s=_PATIENCE_S)


def current(home: Path) -> Versions:
    with session(home) as found:
        return found.versions()


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    with folder_in_memory() as folder, s3_server(folder / "s3") as variables:
        yield variables


@pytest.fixture(scope="module")
def ray() -> Iterator[dict[str, str]]:
    with ray_cluster(Node(), Node(gpus=1)) as variables:
        yield variables


@contextmanager
def home_of(profile: str, landed: Landed, s3: Mapping[str, str], more: Mapping[str, str]) -> Iterator[Path]:
    with folder_in_memory() as folder, place(profile, landed.landing, s3, more):
        yield folder / "home"


def test_the_profile_server_builds_what_the_embedded_one_builds(landed: Landed, s3: dict[str, str]) -> None:
    with home_of("server", landed, s3, {}) as home:
        assert built(home, landed.settings) == landed.truth
        assert ordered(home, "refresh", **landed.settings)["runs"] == 0


def test_a_backfill_over_two_nodes_builds_what_the_embedded_profile_builds(
    landed: Landed, s3: dict[str, str], ray: dict[str, str]
) -> None:
    with home_of("cluster", landed, s3, ray) as home:
        told = ordered(home, "backfill", EVERYTHING, **landed.settings)
        assert told["state"] == "done"
        assert current(home) == landed.truth
        with session(home) as found:
            runs = found.instance.get_runs()
            assert len(runs) == len(told["runs"]) > 2
            assert len({run.tags[PROCESS_TAG] for run in runs}) == 2
            check_committed_once(found, landed.truth)
        assert ordered(home, "backfill", EVERYTHING, **landed.settings)["runs"] == []
        assert ordered(home, "refresh", **landed.settings)["runs"] == 0


def test_workers_that_are_killed_cost_their_chunks_and_nothing_else(
    landed: Landed, s3: dict[str, str], ray: dict[str, str]
) -> None:
    with home_of("cluster", landed, s3, ray) as home:
        process = start(home, "backfill", EVERYTHING, "--chunk", "25", "--json", **landed.settings)
        killed = kill_workers(home, process, sum(map(len, landed.truth.values())) // (KILLS + 2))
        told = answer(process, within_s=_PATIENCE_S)
        assert told["state"] == "done"
        assert len(killed) == KILLS
        assert current(home) == landed.truth
        with session(home) as found:
            check_committed_once(found, landed.truth)
            states = Counter(run.status for run in found.instance.get_runs())
        assert states[dg.DagsterRunStatus.STARTED] == 0
        # A worker may have ended its run in the moment in which it was killed.
        assert 1 <= states[dg.DagsterRunStatus.FAILURE] <= KILLS
        assert ordered(home, "refresh", **landed.settings)["runs"] == 0


def kill_workers(home: Path, process: "subprocess.Popen[str]", between: int) -> set[str]:
    """Kill workers in the middle of their chunks, each time another one, and when so much more has been done."""
    killed: set[str] = set()
    ends = time.monotonic() + _PATIENCE_S
    while not (home / "dagster" / "dagster.yaml").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    with session(home) as found:
        book = BackfillBook(found.settings.backfills)
        while len(killed) < KILLS and process.poll() is None:
            assert time.monotonic() < ends, "there were not enough workers to kill"
            done = sum(sum(each.counts.values()) for each in book.backfills())
            runs = found.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
            for run in runs if done > between * len(killed) else ():
                worker = run.tags.get(PROCESS_TAG, "")
                pid = int(worker.split(":")[1]) if worker else process.pid
                if pid != process.pid and worker not in killed and has_emitted(found, run.run_id):
                    os.kill(pid, signal.SIGKILL)
                    killed.add(worker)
                    break
            time.sleep(0.1)
    return killed


def has_emitted(found: Session, run_id: str) -> bool:
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    return bool(found.instance.get_records_for_run(run_id, of_type=kind, limit=1).records)


def check_committed_once(found: Session, truth: Versions) -> None:
    """There is one value of each partition, and one event of a run that computed it or took it over from a killed one.

    Dagster writes events and, in another transaction, their tags. What is killed in between leaves events without a
    data version, which are no heads: the next run sets those, without computing, by a second event.
    """
    traces = found.workspace.lake.index.traces(sorted(found.workspace.project.assets))
    stored = Counter((trace.asset, trace.partition) for trace in traces)
    expected = Counter((asset, key) for asset, keys in truth.items() for key in keys)
    assert stored == expected
    events: Counter[tuple[str, str]] = Counter()
    for asset in truth:
        key, log = asset_key(asset), found.instance.event_log_storage
        for record in found.instance.fetch_materializations(key, limit=10_000).records:
            if log.get_event_tags_for_asset(key, filter_event_id=record.storage_id):
                events[asset, record.partition_key or ""] += 1
    assert events == expected


def test_a_step_that_needs_a_device_runs_on_the_node_that_has_one(
    s3: dict[str, str], ray: dict[str, str], tmp_path: Path
) -> None:
    shop.land_days(tmp_path / "made", 14)
    with place("cluster", tmp_path / "made" / "landing", s3, ray):
        told = ordered(tmp_path / "home", "backfill", EVERYTHING, "--chunk", "10", domains=gpu_shop.__name__)
        assert told["state"] == "done"
        with opened(shop.settings(tmp_path / "home", domains=(gpu_shop.__name__,))) as found:
            assert set(gpu_shop.devices(found)) == {"0"}


def test_a_cluster_without_a_device_says_so_at_once(s3: dict[str, str], tmp_path: Path) -> None:
    shop.land_days(tmp_path / "made", 14)
    with ray_cluster(Node()) as ray, place("cluster", tmp_path / "made" / "landing", s3, ray):
        process = start(tmp_path / "home", "backfill", EVERYTHING, "--json", domains=gpu_shop.__name__)
        _, errors = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 2
    assert "needs 1 CUDA device of one Ray node" in errors
    assert "MY_PLATFORM_DEVICE=cpu" in errors


def test_runs_of_the_daemon_are_jobs_on_ray_and_build_the_same(
    s3: dict[str, str], ray: dict[str, str]
) -> None:
    with folder_in_memory() as folder:
        landing, home = folder / "truth" / "landing", folder / "home"
        land(landing, 21, customers=50, terminals=100)
        truth = built(folder / "truth", SMALL)
        with place("cluster", landing, s3, ray):
            with served(home, **SMALL) as ui:
                ui.stop_sensor()
                ui.backfill()
                assert current(home) == truth
            with session(home) as found:
                runs = found.instance.get_runs()
                assert runs
                launched = [found.instance.all_logs(run.run_id, ENGINE_EVENT) for run in runs]
        assert all("Ray run job created" in str([e.message for e in events]) for events in launched)
