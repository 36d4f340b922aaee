"""Runs whose process was killed before it had begun them."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster_shared.serdes import serialize_value

from assets_tests.homes import CHECKOUT
from my_platform.operations.orphans import end_unbegun

STARTING, STARTED, FAILURE = (
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.FAILURE,
)
CODE_SERVER = ".dagster/grpc_info"


@dg.op
def nothing() -> None: ...


@dg.job
def job() -> None:
    nothing()


def launched(instance: dg.DagsterInstance, by: Path | None, status: dg.DagsterRunStatus = STARTING) -> str:
    """A run as its launcher leaves it."""
    tags = {CODE_SERVER: json.dumps({"host": "localhost", "socket": str(by)})} if by else {}
    return instance.create_run_for_job(job, status=status, tags=tags).run_id


def test_runs_that_nobody_is_left_to_begin_are_ended(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance, socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "lives"))
        server.listen()
        gone = launched(instance, tmp_path / "gone")
        killed_while_it_was_launched = launched(instance, None)
        begins = launched(instance, tmp_path / "lives")
        goes_on = launched(instance, tmp_path / "gone", STARTED)

        assert set(end_unbegun(instance)) == {gone, killed_while_it_was_launched}

        states = {run.run_id: run.status for run in instance.get_runs()}
        assert states == {
            gone: FAILURE,
            killed_while_it_was_launched: FAILURE,
            begins: STARTING,
            goes_on: STARTED,
        }


def test_one_that_is_begun_all_the_same_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}")
    with dg.DagsterInstance.get() as instance:
        origin = dg.reconstructable(job).get_python_origin()
        run_id = instance.create_run_for_job(job, status=STARTING, job_code_origin=origin).run_id
        end_unbegun(instance)
        # What a code server starts for a run.
        told = {"__class__": "ExecuteRunArgs", "instance_ref": None, "run_id": run_id}
        told |= {"job_origin": json.loads(serialize_value(origin)), "set_exit_code_on_failure": True}
        subprocess.run(
            [sys.executable, "-m", "dagster", "api", "execute_run", json.dumps(told)],
            cwd=CHECKOUT,
            check=True,
            capture_output=True,
            timeout=120,
        )
        records = instance.all_logs(run_id)
        run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status is FAILURE
    assert any("Ignoring a run worker" in each.message for each in records)
    assert not [each for each in records if each.dagster_event and each.dagster_event.is_step_event]
