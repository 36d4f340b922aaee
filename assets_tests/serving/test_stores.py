"""What every store of online state promises; the same tests for each."""

import sqlite3
import threading
from pathlib import Path

import pytest
from pydantic_core import PydanticSerializationError

from assets_tests.serving.conftest import OpenStore
from assets_tests.serving.redis_servers import RedisServer
from my_platform.features.online import Event
from my_platform.serving.redis_store import RedisStore
from my_platform.serving.sqlite_store import SqliteStore
from my_platform.serving.store import (
    SCHEMA_VERSION,
    EntityEvent,
    Partition,
    Remembered,
    StoreError,
)


def event(second: int, order: int | str = 1, *values: object) -> Event:
    return Event(second, order, values)


def test_events_come_back_as_they_were_in_time_order_after_reopening(open_store: OpenStore) -> None:
    events = [
        event(30, 2, 0.1 + 0.2, None, True),
        event(30, 10, -0.0, 2**63 - 1, False),
        event(-5, 7, 1e300, "é\n'", 1),
    ]
    open_store().append([EntityEvent("spending", 3, each) for each in events])
    found = open_store().events("spending", 3)
    assert repr(found) == repr([events[2], events[0], events[1]])


def test_entities_sets_and_kinds_of_keys_are_kept_apart(open_store: OpenStore) -> None:
    store = open_store()
    for number, (name, entity) in enumerate([("a", 1), ("a", "1"), ("b", 1), ("a", -1)]):
        store.append([EntityEvent(name, entity, event(5, "x", number))])
    assert [store.events(*each)[0].values for each in [("a", 1), ("a", "1"), ("b", 1), ("a", -1)]] == [
        (0,),
        (1,),
        (2,),
        (3,),
    ]
    assert store.events("a", 2) == []


def test_an_event_appended_twice_is_one(open_store: OpenStore) -> None:
    store = open_store()
    for _ in range(2):
        store.append([EntityEvent("a", 1, event(5, 1, 7)), EntityEvent("a", 1, event(6, 1, 8))])
    assert store.events("a", 1) == [event(5, 1, 7), event(6, 1, 8)]


def test_an_event_that_is_removed_is_gone_and_may_come_again(open_store: OpenStore) -> None:
    store = open_store()
    appended, landed = EntityEvent("a", 1, event(5, 1, 7)), EntityEvent("a", 1, event(6, 2, 8))
    store.append([appended, EntityEvent("a", 1, event(5, 3, 9))])
    store.replace([Partition("a", "day", "v", [(1, landed.event)])])
    store.remove([appended, landed])
    assert open_store().events("a", 1) == [event(5, 3, 9)]
    store = open_store()
    store.append([appended])
    assert store.events("a", 1) == [event(5, 1, 7), event(5, 3, 9)]


def test_a_row_is_remembered_as_it_first_came_until_a_partition_corrects_it(open_store: OpenStore) -> None:
    store = open_store()
    for amount in (1.5, 2.5):
        store.append([], [Remembered("t1", 10, {"row": {"amount": amount}})])
    assert open_store().row("t1") == {"row": {"amount": 1.5}}
    store = open_store()
    store.replace([], [Remembered("t1", 10, {"row": {"amount": 3.5}})])
    assert [store.row("t1"), store.row("t2")] == [{"row": {"amount": 3.5}}, None]


def test_a_corrected_partition_takes_the_place_of_its_earlier_version_alone(open_store: OpenStore) -> None:
    store = open_store()
    one = [(1, event(5, 1, "old")), (1, event(6, 2, "goes")), (2, event(7, 3, "stays"))]
    store.replace(
        [Partition("a", "day1", "v1", one), Partition("a", "day2", "v1", [(1, event(99, 1, "next"))])]
    )
    store.replace([Partition("a", "day1", "v2", [(1, event(5, 1, "new")), one[2]])])
    assert store.events("a", 1) == [event(5, 1, "new"), event(99, 1, "next")]
    assert store.events("a", 2) == [event(7, 3, "stays")]
    assert open_store().versions("a") == {"day1": "v2", "day2": "v1"}


def test_an_appended_event_becomes_the_partitions_and_others_stay(open_store: OpenStore) -> None:
    store = open_store()
    store.append([EntityEvent("a", 1, event(5, 1, "by itself")), EntityEvent("a", 1, event(6, 2, "late"))])
    store.replace([Partition("a", "day1", "v1", [(1, event(5, 1, "landed"))])])
    assert store.events("a", 1) == [event(5, 1, "landed"), event(6, 2, "late")]
    store.replace([Partition("a", "day1", "v2", [])])
    assert store.events("a", 1) == [event(6, 2, "late")]


def test_what_is_forgotten_is_gone_and_said_to_be(open_store: OpenStore) -> None:
    store = open_store()
    store.append(
        [EntityEvent(name, 1, event(second, 1)) for name in "ab" for second in (4, 5)],
        [Remembered(second, second, {}) for second in (7, 8)],
    )
    assert store.forgotten("a") is None
    store.forget({"a": 5}, 8)
    store.forget({"a": 3}, 0)
    store = open_store()
    assert [len(store.events("a", 1)), len(store.events("b", 1))] == [1, 2]
    assert [store.forgotten("a"), store.forgotten("b")] == [5, None]
    assert [store.row(7), store.row(8)] == [None, {}]


def test_a_write_that_fails_leaves_nothing_behind(open_store: OpenStore) -> None:
    store = open_store()
    with pytest.raises(PydanticSerializationError):
        store.append([EntityEvent("a", 1, event(5, 1, 1)), EntityEvent("a", 1, event(6, 1, object()))])
    assert store.events("a", 1) == []


def test_a_file_of_a_newer_platform_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    SqliteStore(path).close()
    with sqlite3.connect(path) as database:
        database.execute(f"pragma user_version = {SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(StoreError, match=r"schema 2, and this platform knows 1; use the newer platform"):
        SqliteStore(path)


def test_a_second_writer_of_a_file_is_refused(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path / "state.sqlite")
    with pytest.raises(StoreError, match="another process has it open"):
        SqliteStore(tmp_path / "state.sqlite")
    first.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    with pytest.raises(StoreError, match="remove it and bootstrap again"):
        SqliteStore(tmp_path / "state.sqlite")


def test_redis_state_of_a_newer_platform_is_refused(redis_server: RedisServer) -> None:
    import redis

    with redis.Redis.from_url(redis_server.url) as client:
        client.set("newer:schema", SCHEMA_VERSION + 1)
    with pytest.raises(StoreError, match="schema 2, and this platform knows 1"):
        RedisStore(redis_server.url, prefix="newer:")


def test_a_redis_that_does_not_answer_is_named() -> None:
    with pytest.raises(StoreError, match=r"online state in Redis: .*start it or correct its URL"):
        RedisStore("redis://127.0.0.1:1/0")


def test_redis_state_survives_a_kill_of_the_server_and_the_connection_is_made_again(
    redis_server: RedisServer,
) -> None:
    store = RedisStore(redis_server.url, prefix="killed:")
    store.append([EntityEvent("a", 1, event(5, 1, 1))])
    redis_server.kill()
    redis_server.start()
    store.append([EntityEvent("a", 1, event(6, 1, 2))])
    assert store.events("a", 1) == [event(5, 1, 1), event(6, 1, 2)]
    store.close()


def test_a_row_is_found_as_soon_as_it_is_written_while_another_thread_asks_for_versions(
    open_store: OpenStore,
) -> None:
    store = open_store()
    store.replace([Partition("a", f"{number}", "v", []) for number in range(2_000)])
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            store.versions("a")

    other = threading.Thread(target=ask)
    other.start()
    found = []
    for number in range(200):
        store.append([], [Remembered(number, 1, {"n": number})])
        found.append(store.row(number))
    ended.set()
    other.join()

    assert found == [{"n": number} for number in range(200)]
