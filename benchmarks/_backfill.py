"""A backfill by plain Dagster: one run a partition, launched as a process by the default run launcher."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from benchmarks._report import CHECKOUT

_CONFIG = """
telemetry: {enabled: false}
# Runs are launched as they are submitted: no queue, and no daemon whose ticks would add to them.
run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}
"""


@dataclass(frozen=True)
class Backfill:
    """From the first run's submission to the last one's end, and the processor time of all processes."""

    wall_s: float
    cpu_s: float


def backfill(
    folder: Path, landing: Path, tables: Path, days: Sequence[str], executor: str, *, timeout_s: int = 900
) -> Backfill:
    """Run the job of `benchmarks/_plain_dagster.py` for some days, all of them submitted at once.

    Raises:
        RuntimeError: a run failed or did not end in time.
    """
    home = folder / "dagster"
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text(_CONFIG)
    socket, log = folder / "socket", folder / "server.log"
    workspace = folder / "workspace.yaml"
    workspace.write_text(f"load_from:\n  - grpc_server: {{socket: {socket}, location_name: plain}}\n")
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "PLAIN_LANDING": str(landing),
        "PLAIN_TABLES": str(tables),
        "PLAIN_EXECUTOR": executor,
        "PYTHONWARNINGS": "ignore",
    }
    dagster = str(Path(sys.executable).parent / "dagster")
    with open(log, "wb") as output:
        server = subprocess.Popen(
            [dagster, "api", "grpc", "-m", "benchmarks._plain_dagster", "--socket", str(socket)],
            cwd=CHECKOUT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + timeout_s
        while not socket.exists() and server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        subprocess.run(
            [
                dagster,
                "job",
                "backfill",
                "-w",
                str(workspace),
                "-j",
                "daily",
                "--partitions",
                ",".join(days),
                "--noprompt",
            ],
            cwd=CHECKOUT,
            env=environment,
            check=True,
            capture_output=True,
            timeout=timeout_s,
        )
        wall_s = _finished(home, len(days), deadline)
    finally:
        server.terminate()
        _, _, usage = os.wait4(server.pid, 0)
        server.returncode = 0
    return Backfill(wall_s, usage.ru_utime + usage.ru_stime)


def _finished(home: Path, runs: int, deadline: float) -> float:
    """Wait for all runs; seconds from the first one's submission to the last one's end."""
    os.environ["DAGSTER_HOME"] = str(home)
    with dg.DagsterInstance.get() as instance:
        while True:
            records = instance.get_run_records()
            done = [record for record in records if record.dagster_run.is_finished]
            if len(done) == runs:
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(done)} of {runs} runs have ended in time")
            time.sleep(0.5)
    failed = [r.dagster_run.run_id for r in done if r.dagster_run.status is not dg.DagsterRunStatus.SUCCESS]
    if failed:
        raise RuntimeError(f"the runs {', '.join(failed)} failed")
    return max(r.end_time or 0.0 for r in done) - min(r.create_timestamp.timestamp() for r in done)
