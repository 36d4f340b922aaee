"""A home that is built within a memory limit holds what one without a limit holds, and the limit holds."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from assets_tests.homes import CHECKOUT, land
from my_platform.operations.session import opened
from my_platform.settings import Settings

pytestmark = pytest.mark.slow

DAYS = 40
LIMIT = 650_000_000
BUILT = "group:raw or group:references or group:validated or group:features"
_CHILD = """
import json, sys
from my_platform.incremental.memory import peak_bytes
from my_platform.operations.session import opened
from my_platform.settings import Settings
with opened(Settings()) as session:
    report = session.refresh(select=sys.argv[1])
print("RESULT", json.dumps({"peak": peak_bytes(), "failed": report.outcome.failed}))
"""


def build(home: Path, landing: Path, limit: str) -> dict[str, Any]:
    environment = {
        **os.environ,
        "MY_PLATFORM_HOME": str(home),
        "MY_PLATFORM_LANDING_URL": str(landing),
        "MY_PLATFORM_MEMORY_LIMIT": limit,
    }
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, BUILT],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stderr[-3000:]
    found = json.loads(lines[0].removeprefix("RESULT "))
    assert not found["failed"]
    assert isinstance(found, dict)
    return found


def versions(home: Path) -> set[tuple[str, str, str]]:
    with sqlite3.connect(home / "lake" / "index.sqlite") as index:
        return set(index.execute("select asset, partition, data_version from traces"))


def test_a_home_within_a_limit_is_the_home_without_one(folder: Path) -> None:
    land(folder / "landing", DAYS, customers=4_000, terminals=4_000)
    found = build(folder / "within", folder / "landing", f"{LIMIT // 1_000_000}MB")
    build(folder / "without", folder / "landing", "off")
    assert versions(folder / "within") == versions(folder / "without")
    assert found["peak"] <= LIMIT
    with opened(Settings(home=folder / "within", landing_url=str(folder / "landing"))) as session:
        event = session.instance.get_latest_materialization_event(_key("customer_spending"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert " parts by CUSTOMER_ID" in str(metadata["computed"].value)
    assert 0 < int(str(metadata["peak_memory_bytes"].value)) <= LIMIT
    assert not list((folder / "within" / "spill").rglob("*.arrow"))


def _key(name: str) -> Any:
    import dagster as dg

    return dg.AssetKey(name)
