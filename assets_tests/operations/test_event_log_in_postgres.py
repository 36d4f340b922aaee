"""Events in PostgreSQL: connections stay open and are replaced where they broke, and evaluations go in together."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from assets_tests.operations.test_event_log import EVALUATIONS, KEY, executions, one_by_one, together
from assets_tests.postgres_server import Server, server
from my_platform.operations.event_log import stay_connected

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    pytest.importorskip("dagster_postgres", reason="install the extra postgres")
    with server() as found:
        yield found


@pytest.fixture
def instance(
    running: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    url = "postgresql://{PGUSER}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(**running.variables)
    (tmp_path / "dagster.yaml").write_text(f"storage: {{postgres: {{postgres_url: '{url}'}}}}")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as opened:
        stay_connected(opened)
        yield opened


def report(instance: dg.DagsterInstance, day: str) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition=day, tags={"version": day}))


@contextmanager
def counted(event: str) -> Iterator[list[str]]:
    """What engines did meanwhile: each connection they made, or each statement they sent."""
    seen: list[str] = []

    def note(*told: Any) -> None:
        seen.append(str(told[2]) if event == "before_cursor_execute" else event)

    target: Any = sa.pool.Pool if event == "connect" else sa.Engine
    sa.event.listen(target, event, note)
    try:
        yield seen
    finally:
        sa.event.remove(target, event, note)


def test_a_materialization_opens_no_connection(instance: dg.DagsterInstance) -> None:
    report(instance, "first")
    with counted("connect") as connections:
        for number in range(5):
            report(instance, str(number))
    assert connections == []
    assert len(instance.fetch_materializations(KEY, limit=10).records) == 6


def test_a_connection_that_broke_is_replaced(instance: dg.DagsterInstance, running: Server) -> None:
    report(instance, "before")
    seen = len(instance.get_run_records())
    running.kill()
    running.start()
    report(instance, "after")
    assert instance.fetch_materializations(KEY, limit=1).records[0].partition_key == "after"
    assert len(instance.get_run_records()) == seen


def test_evaluations_are_written_together_and_are_those_that_dagster_writes(
    instance: dg.DagsterInstance,
) -> None:
    one = executions(instance, one_by_one)
    with counted("before_cursor_execute") as statements:
        assert executions(instance, together) == one
    inserted = [each for each in statements if each.lower().startswith("insert into asset_check_executions")]
    assert (len(inserted), len(one)) == (1, len(EVALUATIONS))
