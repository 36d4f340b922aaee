"""Machines that share one bucket and one database: every owed partition is committed once, whoever dies with the lock."""

import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from assets_tests.homes import Versions, answer
from assets_tests.operations import shop
from assets_tests.operations.faulty_s3 import DAYS, FaultyS3, clean_versions, faulty_s3, once_each
from assets_tests.operations.machines import Machine
from assets_tests.postgres_server import Server
from assets_tests.storage.s3_servers import moto_server
from my_platform.operations.heads import HEADS_LOCK, DagsterHeads
from my_platform.operations.session import Session, opened
from my_platform.storage.session_lock import key_of

pytestmark = pytest.mark.s3
ENDED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
_PATIENCE_S = 600.0


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    return clean_versions(tmp_path_factory.mktemp("clean"))


@pytest.fixture
def s3(database: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    with moto_server() as url, faulty_s3(url, monkeypatch, uuid.uuid4().hex) as made:
        for number in range(DAYS):
            made.land(number)
        yield made


def on(machine: Machine) -> AbstractContextManager[Session]:
    """A session on a machine."""
    return opened(shop.settings(machine.home, profile="server", bucket_url=machine.bucket_url))


def check_clean(s3: FaultyS3, machines: list[Machine], clean: Versions) -> None:
    """All machines see what a clean build gives, nothing is owed, and each value was written once."""
    for machine in machines:
        with on(machine) as session:
            again = session.refresh().as_json()
            assert (again["computed"], again["failed"], again["runs"]) == ({}, {}, 0)
            assert session.versions() == clean
            assert {run.status for run in session.instance.get_runs()} <= ENDED
    assert set(s3.commits().values()) == {1}
    assert s3.stored() == once_each(clean)


@contextmanager
def database_of(machine: Machine) -> Iterator[sa.Connection]:
    """A session of its own in the database of the heads."""
    with on(machine) as session:
        url = session.instance.event_log_storage.postgres_url  # type: ignore[attr-defined]
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection


def waiting(connection: sa.Connection) -> int:
    """How many processes wait for the lock of the heads."""
    found = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    return int(connection.exec_driver_sql(found).scalar_one())


def until(there: Callable[[], bool], alive: Sequence[subprocess.Popen[str]] = ()) -> None:
    """Wait for something that processes bring about while they live."""
    ends = time.monotonic() + _PATIENCE_S
    while not there():
        assert time.monotonic() < ends, "waited in vain"
        for process in alive:
            assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def told(session: Session, versions: Versions) -> Counter[tuple[str, str, str]]:
    """Materializations by asset, partition and data version."""
    found: Counter[tuple[str, str, str]] = Counter()
    for asset in versions:
        for record in session.instance.fetch_materializations(
            dg.AssetKey(asset.split("/")), limit=1_000
        ).records:
            made = record.asset_materialization
            assert made is not None
            found[asset, made.partition or "", (made.tags or {})["dagster/data_version"]] += 1
    return found


def test_two_refreshes_and_a_backfill_at_once_commit_each_partition_once_though_one_dies_with_the_lock(
    tmp_path: Path, s3: FaultyS3, clean: Versions
) -> None:
    first, second = (Machine(tmp_path / name, s3.url) for name in ("first", "second"))
    with first.stuck(4, "refresh", "--json"), database_of(second) as connection:
        at_work = [
            second.start("refresh", "--json"),
            first.start("backfill", "*", "--chunk", "5", "--json"),
        ]
        until(lambda: waiting(connection) == len(at_work), at_work)
    for process in at_work:
        answer(process)
    answer(first.start("refresh", "--json"))
    check_clean(s3, [first, second], clean)
    # Nobody was told twice that a value was new.
    with on(first) as session:
        assert set(told(session, clean).values()) == {1}


def test_a_machine_that_is_new_takes_over_what_the_others_have_computed(
    tmp_path: Path, s3: FaultyS3, clean: Versions
) -> None:
    first, second = (Machine(tmp_path / name, s3.url) for name in ("first", "second"))
    with on(first) as session:
        session.refresh()
    with on(second) as session:
        assert session.refresh().as_json()["computed"] == {}
        assert session.versions() == clean
    s3.land(2, extra_cents=1)
    with on(second) as session:
        assert session.refresh().as_json()["failed"] == {}
        now = session.versions()
    with on(first) as session:
        assert session.refresh().as_json()["computed"] == {}
        assert session.versions() == now
    s3.land(2)
    with on(first) as session:
        back = session.refresh().as_json()
        assert (back["computed"], set(back["reused"])) == ({}, {a for a in clean if now[a] != clean[a]})
        assert session.versions() == clean
    assert set(s3.commits().values()) == {1}


def test_heads_are_set_under_a_lock_of_the_database(tmp_path: Path, s3: FaultyS3) -> None:
    first, second = (Machine(tmp_path / name, s3.url) for name in ("first", "second"))
    with on(first) as one, on(second) as other, database_of(first) as connection:
        free = f"select pg_try_advisory_lock({key_of(HEADS_LOCK)})"
        with one.heads.commit_section():
            assert connection.exec_driver_sql(free).scalar() is False
        with other.heads.commit_section():
            assert connection.exec_driver_sql(free).scalar() is False
        assert connection.exec_driver_sql(free).scalar() is True
    assert not (first.home / "dagster" / "commit.lock").exists()


@pytest.mark.slow
def test_tables_are_made_once_by_machines_that_come_at_the_same_moment(
    tmp_path: Path, s3: FaultyS3, clean: Versions
) -> None:
    machines = [Machine(tmp_path / str(number), s3.url) for number in range(4)]
    for process in [machine.start("refresh", "--json") for machine in machines]:
        answer(process)
    check_clean(s3, machines[:1], clean)


def test_a_lock_that_was_lost_with_its_server_lets_no_head_be_set(
    tmp_path: Path, s3: FaultyS3, database: Server
) -> None:
    machine = Machine(tmp_path / "first", s3.url)
    with on(machine) as session:
        with pytest.raises(sa.exc.OperationalError), session.heads.commit_section():  # noqa: PT012
            database.kill()
            database.start()
            session.heads.withdraw("raw/orders", str(shop.FIRST))
        assert session.heads.read(["raw/orders"]) == {"raw/orders": {}}
        with session.heads.commit_section():
            session.heads.withdraw("raw/orders", str(shop.FIRST))
        assert session.heads.read(["raw/orders"]) == {"raw/orders": {str(shop.FIRST): "absent"}}


@pytest.mark.parametrize("heads", [1, 12])
def test_a_refresh_goes_on_when_postgres_is_killed_under_it(
    tmp_path: Path,
    s3: FaultyS3,
    database: Server,
    clean: Versions,
    monkeypatch: pytest.MonkeyPatch,
    heads: int,
) -> None:
    emit, left = DagsterHeads.emit, [heads]

    def loses_its_server(self: DagsterHeads, *arguments: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            database.kill()
            database.start()
        emit(self, *arguments)

    monkeypatch.setattr(DagsterHeads, "emit", loses_its_server)
    machine = Machine(tmp_path / "first", s3.url)
    with on(machine) as session:
        assert session.refresh().problems == []
        assert left[0] < 0
    check_clean(s3, [machine], clean)


def test_a_database_that_is_gone_ends_the_command_in_words(
    tmp_path: Path, s3: FaultyS3, database: Server
) -> None:
    machine = Machine(tmp_path / "first", s3.url)
    with on(machine):
        pass
    database.kill()
    process = machine.start("refresh", "--json")
    out, errors = process.communicate(timeout=600)
    database.start()
    assert (process.returncode, out) == (1, "")
    assert "my-platform: the database does not answer: " in errors
    assert "run the same again" in errors
    assert "Traceback" not in errors
