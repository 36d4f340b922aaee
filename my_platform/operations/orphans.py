"""Runs whose process is gone: Dagster leaves them as started, for nobody is left to report them."""

import json
import os
import socket
from pathlib import Path

import dagster as dg

PROCESS_TAG = "my_platform/process"
# Dagster's own, by the launcher of a home on one machine: where the code server listens that begins a run.
_CODE_SERVER_TAG = ".dagster/grpc_info"


def this_process() -> dict[str, str]:
    """The tag that names the process of a run."""
    return {PROCESS_TAG: f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"}


def tag_process(instance: dg.DagsterInstance, run_id: str) -> None:
    """Tag a run that is under way with this process."""
    instance.add_run_tags(run_id, this_process())


def orphans(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """The runs that stand as started and that a process of this machine was killed in."""
    started = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    return [run for run in started if PROCESS_TAG in run.tags and not _alive(run.tags[PROCESS_TAG])]


def end_own(instance: dg.DagsterInstance, why: str) -> None:
    """Report as failed the runs of this process, which is at none now."""
    ours = this_process()
    for run in instance.get_runs(dg.RunsFilter(tags=ours, statuses=[dg.DagsterRunStatus.STARTED])):
        instance.report_run_failed(run, f"{why}; what it had committed stays")


def end_orphans(instance: dg.DagsterInstance) -> list[str]:
    """Report as failed the runs that a process of this machine was killed in; their ids."""
    ended = []
    for run in orphans(instance):
        instance.report_run_failed(
            run,
            "the process of this run is gone; what it had committed stays, and the next refresh goes on",
        )
        ended.append(run.run_id)
    return ended


def end_unbegun(instance: dg.DagsterInstance) -> list[str]:
    """Report as failed the runs that a code server which is gone was to begin; their ids.

    For who starts the one daemon of a home, before it launches anything. A run that is begun all the same finds that it
    has ended, and does nothing.
    """
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING])):
        if not _answers(json.loads(run.tags.get(_CODE_SERVER_TAG, "{}")).get("socket", "")):
            instance.report_run_failed(
                run, "the process that was to begin this run is gone; nothing was computed"
            )
            ended.append(run.run_id)
    return ended


def _answers(path: str) -> bool:
    """Whether a server listens on a socket of this machine."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _alive(tag: str) -> bool:
    host, _, rest = tag.partition(":")
    pid, _, started = rest.partition(":")
    if host != socket.gethostname():
        return True
    return pid.isdigit() and _started(int(pid)) == started


def _started(pid: int) -> str:
    """When a process was started, in clock ticks since boot; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
