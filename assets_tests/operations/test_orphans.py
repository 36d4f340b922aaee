"""Runs whose process was killed before it had begun them."""

import json
import socket
from pathlib import Path

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run_iterator

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


def test_one_that_is_begun_all_the_same_does_nothing(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        gone = launched(instance, tmp_path / "gone")
        end_unbegun(instance)
        run = instance.get_run_by_id(gone)
        assert run is not None
        events = list(execute_run_iterator(InMemoryJob(job), run, instance))
        assert not [event for event in events if event.is_step_event]
        after = instance.get_run_by_id(gone)
        assert after is not None
        assert after.status is FAILURE
