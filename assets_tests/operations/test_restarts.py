"""PostgreSQL, the S3 server and the daemon are killed and started again in the middle of work, several times each."""

import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from assets_tests.homes import Versions, answer
from assets_tests.operations.faulty_s3 import FaultyS3, clean_versions, faulty_s3, once_each
from assets_tests.operations.machines import Machine
from assets_tests.operations.test_machines import check_clean, on, until
from assets_tests.postgres_server import Server
from assets_tests.storage import s3_servers
from assets_tests.storage.s3_servers import KEY, SECRET

pytestmark = [pytest.mark.slow, pytest.mark.s3]
DAYS = 30
# Values that are committed between two kills.
BETWEEN = 7
KILLS = 10
BACKFILL = ("backfill", "*", "--chunk", "4", "--json")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    return clean_versions(tmp_path_factory.mktemp("clean"), DAYS)


@pytest.fixture(scope="module")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    if missing := s3_servers.missing_for_ceph():
        pytest.skip(
            f"{', '.join(missing)} is missing; as root: apt-get install -y {s3_servers.CEPH_PACKAGES}"
        )
    folder = tmp_path_factory.mktemp("ceph") / "server"
    with s3_servers.ceph_server(folder, KEY, SECRET) as url:
        yield url, folder


@pytest.fixture
def s3(
    ceph: tuple[str, Path], database: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FaultyS3]:
    with faulty_s3(ceph[0], monkeypatch, uuid.uuid4().hex) as made:
        for number in range(DAYS):
            made.land(number)
        yield made


def kill_again_and_again(
    s3: FaultyS3, machine: Machine, kill_and_start: Callable[[], None]
) -> tuple[int, list[subprocess.Popen[str]]]:
    """Order a backfill, again where it has ended, with kills as it goes on; how many there were, and its processes."""
    processes = [machine.start(*BACKFILL)]
    kills = 0
    while kills < KILLS:
        if processes[-1].poll() is not None:
            if processes[-1].returncode == 0:
                break
            processes.append(machine.start(*BACKFILL))
        if s3.commits().total() >= BETWEEN * (kills + 1):
            kill_and_start()
            kills += 1
        time.sleep(0.01)
    return kills, processes


def end(machine: Machine, processes: list[subprocess.Popen[str]]) -> None:
    """Order the backfill until it has done all; those that broke off have said why in words."""
    while processes[-1].wait(600) != 0 and len(processes) < 2 * KILLS:
        processes.append(machine.start(*BACKFILL))
    for process in processes[:-1]:
        errors = process.communicate()[1]
        assert process.returncode == 0 or errors.startswith("my-platform: "), errors
    answer(processes[-1])


def test_postgres_is_killed_in_the_middle_of_a_backfill(
    tmp_path: Path, s3: FaultyS3, database: Server, clean: Versions
) -> None:
    first, second = (Machine(tmp_path / name, s3.url) for name in ("first", "second"))

    def kill_and_start() -> None:
        database.kill()
        database.start()

    kills, processes = kill_again_and_again(s3, first, kill_and_start)
    end(first, processes)
    assert kills == KILLS
    answer(first.start("refresh", "--json"))
    check_clean(s3, [first, second], clean)


def test_the_s3_server_is_killed_in_the_middle_of_a_backfill(
    tmp_path: Path, s3: FaultyS3, ceph: tuple[str, Path], clean: Versions
) -> None:
    first, second = (Machine(tmp_path / name, s3.url) for name in ("first", "second"))

    def kill_and_start() -> None:
        s3_servers.kill_gateway(ceph[1])
        s3_servers.start_gateway(ceph[1], ceph[0])

    kills, processes = kill_again_and_again(s3, first, kill_and_start)
    # It is waited for: the backfill has not ended once.
    assert len(processes) == 1
    end(first, processes)
    assert kills == KILLS
    check_clean(s3, [first, second], clean)


def test_the_daemon_is_killed_while_another_machine_refreshes(
    tmp_path: Path, s3: FaultyS3, clean: Versions
) -> None:
    first, second = (Machine(tmp_path / name, s3.url) for name in ("first", "second"))
    with on(first):
        pass

    def goes_on(written: int) -> bool:
        return s3.commits().total() > written or s3.stored() == once_each(clean)

    with first.daemon():
        until(lambda: goes_on(0))
    at_work = [second.start(*BACKFILL), second.start("refresh", "--json")]
    for _ in range(KILLS):
        with first.daemon():
            until(partial(goes_on, s3.commits().total()))
    for process in at_work:
        answer(process)
    with first.daemon(), on(first) as session:
        until(lambda: session.versions() == clean)
        until(lambda: all(run.is_finished for run in session.instance.get_runs()))
    check_clean(s3, [first, second], clean)
