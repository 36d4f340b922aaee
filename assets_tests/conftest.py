"""Fixtures for all tests."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_MEMORY = Path("/dev/shm")


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder, in memory where the machine has such a place: many small files go there and away."""
    path = Path(tempfile.mkdtemp(prefix="my_platform_", dir=_MEMORY if _MEMORY.is_dir() else None))
    yield path
    shutil.rmtree(path, ignore_errors=True)
