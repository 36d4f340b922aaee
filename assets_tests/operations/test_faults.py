"""Storage and network fail: that is tried again, later each time. What a function refuses is not."""

import errno
import sqlite3
from collections import Counter
from collections.abc import Iterator

import botocore.exceptions
import dagster as dg
import obstore.exceptions
import polars as pl
import pytest
import sqlalchemy.exc

from assets_tests.homes import folder_in_memory
from assets_tests.operations.dagster_shop import Shop, day, land, opened_shop
from my_platform.errors import Refused, StorageUnavailable
from my_platform.operations import faults
from my_platform.operations.faults import MOST_TRIES, is_infrastructure, wait_s


def locked() -> sqlalchemy.exc.OperationalError:
    return sqlalchemy.exc.OperationalError("select 1", {}, sqlite3.OperationalError("database is locked"))


def answered(status: int) -> botocore.exceptions.ClientError:
    return botocore.exceptions.ClientError({"ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")


def raised_from(cause: Exception) -> Exception:
    error = RuntimeError("a client's own words")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        TimeoutError(),
        OSError(errno.EIO, "I/O error"),
        OSError(errno.ENETUNREACH, "unreachable"),
        sqlite3.OperationalError("database is locked"),
        locked(),
        obstore.exceptions.GenericError("error sending request"),
        botocore.exceptions.EndpointConnectionError(endpoint_url="http://127.0.0.1"),
        answered(503),
        StorageUnavailable("s3://b/a", "read", 1.0, "no answer"),
        # What psycopg2 raises where a connection breaks while Dagster makes it.
        sqlalchemy.exc.InterfaceError("select 1", {}, Exception("connection already closed")),
        raised_from(ConnectionRefusedError()),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_pass_is_told_by_its_kind(error: Exception) -> None:
    assert is_infrastructure(error)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "no such file"),
        PermissionError(errno.EACCES, "denied"),
        OSError(errno.ENOSPC, "disk full"),
        sqlite3.OperationalError("no such table: rows"),
        sqlalchemy.exc.OperationalError("select 1", {}, sqlite3.OperationalError("no such table")),
        ValueError("a bug"),
        Refused("a rule"),
        pl.exceptions.ColumnNotFoundError("x"),
        MemoryError(),
        obstore.exceptions.PermissionDeniedError("denied"),
        answered(403),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_comes_again_is_no_fault_of_storage(error: Exception) -> None:
    assert not is_infrastructure(error)


def test_each_wait_is_longer() -> None:
    waits = [wait_s(attempt) for attempt in range(2, MOST_TRIES + 1)]
    assert waits == sorted(waits)
    assert waits[-1] >= 10 * waits[0]


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setattr(faults, "FIRST_WAIT_S", 0.01)
    with folder_in_memory() as folder:
        land(folder / "home", 3)
        with opened_shop(folder / "home") as opened:
            yield opened


class BadStorage:
    """Fails to write one partition a number of times."""

    def __init__(self, shop: Shop, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writes: Counter[str] = Counter()
        store = shop.session.workspace.lake.store
        create = store.create
        place = f"validated/orders/{day(1)}/"

        def sometimes(path: str, data: bytes) -> bool:
            self.writes[path.rpartition("/")[0]] += 1
            if path.startswith(place) and self.writes[place.rstrip("/")] <= times:
                raise ConnectionResetError(errno.ECONNRESET, "the storage hung up")
            return create(path, data)

        monkeypatch.setattr(store, "create", sometimes)


def test_a_refresh_tries_again_and_nothing_else_is_computed_twice(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = BadStorage(shop, 3, monkeypatch)
    done = shop.session.refresh().as_json()
    assert done["failed"] == {}
    assert done["runs"] == 1
    assert len(done["computed"]["validated/orders"]) == 3
    assert set(bad.writes.values()) == {1, 4}
    assert len(shop.traces()) == sum(len(keys) for keys in done["computed"].values())


def test_it_gives_up_and_the_next_refresh_begins_anew(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.MonkeyPatch.context() as for_now:
        BadStorage(shop, 1_000, for_now)
        report = shop.session.refresh()
        assert report.problems == [
            f"validated/orders {day(1)}: ConnectionResetError: [Errno 104] the storage hung up"
        ]
    done = shop.session.refresh().as_json()
    assert done["failed"] == {}
    assert done["computed"]["validated/orders"] == [day(1)]


def test_a_step_is_tried_again_by_dagster(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    BadStorage(shop, 2, monkeypatch)
    span = (day(0), day(2))
    result = shop.run(["raw/orders", "validated/orders"], span=span)
    assert result.success
    restarts = [e for e in result.all_events if e.event_type is dg.DagsterEventType.STEP_RESTARTED]
    assert 1 <= len(restarts) <= 2
    assert set(shop.session.versions()["validated/orders"]) == {day(number) for number in range(3)}


def test_what_is_refused_is_not_tried_again(shop: Shop) -> None:
    (shop.home / "landing" / "orders" / f"{day(1)}.csv").write_text("nonsense\n1\n")
    result = shop.run(["raw/orders"], span=(day(0), day(2)))
    assert not result.success
    assert [e for e in result.all_events if e.event_type is dg.DagsterEventType.STEP_RESTARTED] == []
