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

DAYS, WINDOW_DAYS = 75, 60
LIMIT = 650_000_000
BUILT = "group:raw or group:references or group:validated or group:features or group:training"
TAKEN_APART = {"customer_spending": " parts by CUSTOMER_ID", "training_set": " parts by TRANSACTION_ID"}
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
        "MY_PLATFORM_TRAINING_WINDOW_DAYS": str(WINDOW_DAYS),
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


def checks(home: Path) -> dict[tuple[str, str], Any]:
    """The answers that are stored with each value, by asset and partition."""
    with opened(Settings(home=home, landing_url=str(home.parent / "landing"))) as session:
        lake = session.workspace.lake
        found = {(a, p): (lake.record(a, p, version) or {}).get("checks") for a, p, version in versions(home)}
    return {of: answers for of, answers in found.items() if answers}


def test_a_home_within_a_limit_is_the_home_without_one(folder: Path) -> None:
    land(folder / "landing", DAYS, customers=4_000, terminals=4_000)
    found = build(folder / "within", folder / "landing", f"{LIMIT // 1_000_000}MB")
    build(folder / "without", folder / "landing", "off")
    assert versions(folder / "within") == versions(folder / "without")
    assert found["peak"] <= LIMIT
    with opened(Settings(home=folder / "within", landing_url=str(folder / "landing"))) as session:
        for asset, said in TAKEN_APART.items():
            event = session.instance.get_latest_materialization_event(_key(asset))
            assert event is not None
            assert event.asset_materialization is not None
            metadata = event.asset_materialization.metadata
            assert said in str(metadata["computed"].value)
            assert 0 < int(str(metadata["peak_memory_bytes"].value)) <= LIMIT
    assert not list((folder / "within" / "spill").rglob("*.arrow"))
    judged = checks(folder / "within")
    assert judged == checks(folder / "without")
    assert {asset for asset, _ in judged} >= {"training_set", "training_set_replay"}


def _key(name: str) -> Any:
    import dagster as dg

    return dg.AssetKey(name)
