"""Stores to test with, a file and a real Redis server, and a home whose model may serve."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assets_tests import homes
from assets_tests.serving import service_home
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


@pytest.fixture(scope="session")
def made_home() -> Iterator[Path]:
    """A small home with a champion, which no test changes; each copies it."""
    with homes.folder_in_memory() as folder:
        service_home.make(folder / "home")
        yield folder / "home"


@pytest.fixture(scope="module")
def home(made_home: Path) -> Iterator[Path]:
    """A copy of it, for the tests of one module."""
    with homes.folder_in_memory() as folder:
        yield service_home.copied(made_home, folder)


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
