"""Fixtures for all tests, and what holds after every one of them."""

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from assets_tests import conservation

_MEMORY = Path("/dev/shm")

# Half-written files are waited for where a test is about that.
os.environ.setdefault("MY_PLATFORM_QUIET_S", "0")
conservation.watch_all_lakes()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """No test loses a row."""
    result = yield
    conservation.check()
    return result


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder, in memory where the machine has such a place: many small files go there and away."""
    path = Path(tempfile.mkdtemp(prefix="my_platform_", dir=_MEMORY if _MEMORY.is_dir() else None))
    yield path
    conservation.check()
    shutil.rmtree(path, ignore_errors=True)
