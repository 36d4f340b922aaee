"""Events in PostgreSQL: check evaluations go in together."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from assets_tests.operations.test_event_log import EVALUATIONS, executions, one_by_one, together
from assets_tests.postgres_server import Server, server

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
        yield opened


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements that engines sent meanwhile."""
    seen: list[str] = []

    def note(*told: Any) -> None:
        seen.append(str(told[2]))

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


def test_evaluations_are_written_together_and_are_those_that_dagster_writes(
    instance: dg.DagsterInstance,
) -> None:
    one = executions(instance, one_by_one)
    with counted() as statements:
        assert executions(instance, together) == one
    inserted = [each for each in statements if each.lower().startswith("insert into asset_check_executions")]
    assert (len(inserted), len(one)) == (1, len(EVALUATIONS))
