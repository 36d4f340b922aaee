"""A lock that a PostgreSQL server gives is held by one at a time, and by nobody who is dead."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

sa = pytest.importorskip("sqlalchemy")
pytest.importorskip("psycopg2", reason="the extra `postgres` is not installed: pip install -e '.[postgres]'")

from assets_tests.postgres_server import postgres  # noqa: E402
from my_platform.errors import PlatformError  # noqa: E402
from my_platform.storage.session_lock import key_of, session_locked  # noqa: E402

# Takes the lock, says so, and keeps it.
HOLDER = """
import sys, time
import sqlalchemy as sa
from my_platform.storage.session_lock import session_locked
engine = sa.create_engine(sys.argv[1], isolation_level="AUTOCOMMIT")
with engine.connect() as connection, session_locked(connection, "heads"):
    print("held", flush=True)
    time.sleep(600)
"""
HOLDERS = "select pid from pg_locks where locktype = 'advisory' and granted"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgres() as named:
        yield f"postgresql+psycopg2://{named['PGUSER']}@127.0.0.1:{named['PGPORT']}/{named['PGDATABASE']}"


@pytest.fixture
def engine(url: str) -> Iterator["sa.Engine"]:
    made = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    yield made
    made.dispose()


def holders(engine: "sa.Engine") -> list[int]:
    with engine.connect() as connection:
        return [pid for (pid,) in connection.execute(sa.text(HOLDERS))]


def start_holder(url: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_many_add_up_one_after_the_other(engine: "sa.Engine") -> None:
    found, inside, most = [0], [0], [0]

    def add() -> None:
        for _ in range(10):
            with engine.connect() as connection, session_locked(connection, "heads"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                before = found[0]
                connection.exec_driver_sql("select pg_sleep(0.001)")
                found[0] = before + 1
                inside[0] -= 1

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, most) == ([40], [1])
    assert holders(engine) == []


def test_a_process_that_is_killed_with_the_lock_keeps_nobody_out(url: str, engine: "sa.Engine") -> None:
    process = start_holder(url)
    assert len(holders(engine)) == 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    with engine.connect() as connection, session_locked(connection, "heads") as lock:
        lock.check()
        assert len(holders(engine)) == 1


def test_a_process_that_is_killed_while_it_waits_gets_no_lock_for_ever(url: str, engine: "sa.Engine") -> None:
    with engine.connect() as connection, session_locked(connection, "heads"):
        waiting = subprocess.Popen([sys.executable, "-c", HOLDER, url], stdout=subprocess.DEVNULL)
        wait_for = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        while not connection.exec_driver_sql(wait_for).scalar():
            assert waiting.poll() is None
        waiting.send_signal(signal.SIGKILL)
        waiting.wait()
    with engine.connect() as connection, session_locked(connection, "heads"):
        pass


def test_who_has_lost_the_session_is_told(engine: "sa.Engine") -> None:
    with (  # noqa: PT012
        pytest.raises(sa.exc.OperationalError),
        engine.connect() as connection,
        session_locked(connection, "heads") as lock,
    ):
        (pid,) = holders(engine)
        with engine.connect() as other:
            other.execute(sa.text("select pg_terminate_backend(:pid)"), {"pid": pid})
        with engine.connect() as next_one, session_locked(next_one, "heads"):
            lock.check()
    with engine.connect() as connection, session_locked(connection, "heads"):
        pass


def test_a_lock_that_something_else_has_freed_is_told(engine: "sa.Engine") -> None:
    with (
        pytest.raises(PlatformError, match="in session mode"),
        engine.connect() as connection,
        session_locked(connection, "heads"),
    ):
        connection.exec_driver_sql("select pg_advisory_unlock_all()")


def test_an_error_frees_it(engine: "sa.Engine") -> None:
    with pytest.raises(ZeroDivisionError), engine.connect() as one, session_locked(one, "heads"):
        raise ZeroDivisionError
    with engine.connect() as connection, session_locked(connection, "heads"):
        pass


def test_locks_of_other_names_are_others(engine: "sa.Engine") -> None:
    with (
        engine.connect() as one,
        session_locked(one, "heads"),
        engine.connect() as two,
        session_locked(two, "models"),
    ):
        assert len(holders(engine)) == 2
    assert -(1 << 63) <= key_of("heads") < 1 << 63


def test_the_limits_of_a_role_do_not_end_the_wait(url: str, engine: "sa.Engine") -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("alter role platform set statement_timeout = 50")
        connection.exec_driver_sql("alter role platform set lock_timeout = 50")
    limited = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with limited.connect() as one, session_locked(one, "heads"):
            waits = threading.Thread(target=lambda: _take_and_leave(limited))
            waits.start()
            one.exec_driver_sql("select pg_sleep(0.3)")
        waits.join()
        assert _TAKEN == [True]
    finally:
        limited.dispose()
        with engine.connect() as connection:
            connection.exec_driver_sql("alter role platform reset all")


_TAKEN: list[bool] = []


def _take_and_leave(engine: "sa.Engine") -> None:
    with engine.connect() as connection, session_locked(connection, "heads"):
        _TAKEN.append(True)
