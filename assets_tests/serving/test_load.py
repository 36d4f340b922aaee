"""A load at half of what the service can, through a swap of the champion and the loss of its process or its store."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from assets_tests import homes
from assets_tests.serving.load import Disturbed, counted, disturbed, logged
from assets_tests.serving.redis_servers import RedisServer
from assets_tests.serving.service_home import make

SHORT_S = 30.0
LONG_S = float(os.environ.get("LOAD_SECONDS", "1800"))
FLAT_WITHIN = 0.05


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with homes.folder_in_memory() as folder:
        make(folder / "home")
        yield folder / "home"


def copied(home: Path, folder: Path) -> Path:
    return Path(shutil.copytree(home, folder / "home", ignore=shutil.ignore_patterns("serving")))


def nothing_was_lost(found: Disturbed, home: Path, server: RedisServer | None = None) -> None:
    acknowledged = sorted(found.sent.acknowledged)
    assert (found.unexpected, found.sent.refused) == ([], [])
    assert found.sent.failures, "the kill was not felt"
    assert len(found.bundles) == 2
    assert sorted(logged(home)) == acknowledged
    assert sorted(counted(home, "customer_spending", server)) == acknowledged
    labelled = [key for key in acknowledged if (key - acknowledged[0]) % 10 == 0]
    assert sorted(counted(home, "terminal_risk", server)) == labelled


@pytest.mark.slow
def test_a_killed_service_loses_no_request_of_a_load_and_counts_none_twice(
    home: Path, tmp_path: Path
) -> None:
    own = copied(home, tmp_path)

    nothing_was_lost(disturbed(own, SHORT_S), own)


@pytest.mark.slow
def test_a_redis_that_is_killed_under_load_loses_no_request_and_counts_none_twice(
    home: Path, tmp_path: Path, redis_server: RedisServer
) -> None:
    own = copied(home, tmp_path)

    found = disturbed(own, SHORT_S, redis_server)

    nothing_was_lost(found, own, redis_server)
    assert all('503 b\'{"error":{"code":"store"' in said for _, said in found.sent.failures)


@pytest.mark.load
def test_half_an_hour_of_load_is_answered_in_memory_that_stays_as_it_is(home: Path, tmp_path: Path) -> None:
    own = copied(home, tmp_path)

    found = disturbed(own, LONG_S)

    sys.stdout.write(f"load: {found.line()}\n")
    nothing_was_lost(found, own)
    assert found.memory_spread <= FLAT_WITHIN
