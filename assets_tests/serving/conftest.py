"""Stores to test with: the same suite runs over a file and over a real Redis server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assets_tests.serving.redis_servers import REDIS, RedisServer
from my_platform.serving.redis_store import RedisStore
from my_platform.serving.sqlite_store import SqliteStore
from my_platform.serving.store import StateStore

# Opens the same state each time.
OpenStore = Callable[[], StateStore]


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    if REDIS is None:
        pytest.skip(
            "redis-server is not installed (Debian package redis-server; make test-slow as root installs it)"
        )
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["sqlite", "redis"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    opened: list[StateStore] = []

    def opening() -> StateStore:
        for store in opened:
            store.close()
        if request.param == "sqlite":
            opened.append(SqliteStore(tmp_path / "state.sqlite"))
        else:
            url = request.getfixturevalue("redis_server").url
            opened.append(RedisStore(url, prefix=f"{tmp_path}:"))
        return opened[-1]

    yield opening
    for store in opened:
        store.close()
