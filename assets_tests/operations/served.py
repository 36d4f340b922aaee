"""A home that is served by the real web server and daemon, asked as the browser asks."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from assets_tests.homes import COMMAND, Versions, call, session

_LOOK_AGAIN_S = 1.0
_PATIENCE_S = 600.0
_WHOLE_GRAPH = """mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
    ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
_ENDED = """query ($id: String!) { partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status } ... on PythonError { message } } }"""
_SENSOR = """query ($sensor: SensorSelector!) { sensorOrError(sensorSelector: $sensor) {
    ... on Sensor { id sensorState { id status } } } }"""
_STOP = "mutation ($id: String!) { stopSensor(id: $id) { __typename } }"
_START = "mutation ($sensor: SensorSelector!) { startSensor(sensorSelector: $sensor) { __typename } }"
_UNDER_WAY = """{ runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED, CANCELING]}) {
    ... on Runs { results { runId } } } }"""
_FAILURES = """query ($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events {
    ... on ExecutionStepFailureEvent { failureMetadata { metadataEntries { label
        ... on MarkdownMetadataEntry { mdStr } } } } } } } }"""


_KEEP_UP_TO_DATE = {
    "repositoryName": "__repository__",
    "repositoryLocationName": "my_platform",
    "sensorName": "keep_up_to_date",
}


class Ui:
    """A served home, asked as the browser asks."""

    def __init__(self, home: Path, port: int, process: subprocess.Popen[bytes]) -> None:
        self.home = home
        self.port = port
        self.process = process

    def kill(self) -> None:
        """Kill web server, daemon, code servers and runs at once, as a power cut would."""
        found: set[int] = set()
        # Stopped before they are killed, so that none starts another one meanwhile.
        while more := {self.process.pid, *self.children()} - found:
            found |= more
            for pid in more:
                _send(pid, signal.SIGSTOP)
        for pid in found:
            _send(pid, signal.SIGKILL)
        self.process.wait()
        until(lambda: not any(lives(pid) for pid in found))

    def children(self) -> set[int]:
        """All processes that it has started, directly or not."""
        numbers = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        parents = {pid: about[1] for pid in numbers if (about := _about(pid)) is not None}
        found = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if int(parent) in found} - found:
            found |= more
        return found - {self.process.pid}

    def ask(self, query: str, **variables: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]

    def is_up(self) -> bool:
        try:
            nodes = self.ask("{ assetNodes { id } }")["assetNodes"]
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return bool(nodes)

    def stop_sensor(self) -> None:
        self.ask(_STOP, id=self.ask(_SENSOR, sensor=_KEEP_UP_TO_DATE)["sensorOrError"]["sensorState"]["id"])

    def start_sensor(self) -> None:
        self.ask(_START, sensor=_KEEP_UP_TO_DATE)

    def backfill(self) -> str:
        """Materialize everything at all partitions, and wait; the status at the end."""
        keys = [node["assetKey"] for node in self.ask("{ assetNodes { assetKey { path } } }")["assetNodes"]]
        params = {"assetSelection": keys, "allPartitions": True, "tags": []}
        launched = self.ask(_WHOLE_GRAPH, params=params)["launchPartitionBackfill"]

        def status() -> Any:
            return self.ask(_ENDED, id=launched["backfillId"])["partitionBackfillOrError"]["status"]

        until(lambda: status().startswith("COMPLETED"))
        return str(status())

    def messages(self) -> str:
        """What failed steps name, one by one."""
        runs = self.ask("{ runsOrError { ... on Runs { results { runId status } } } }")["runsOrError"]
        failed = [run["runId"] for run in runs["results"] if run["status"] == "FAILURE"]
        events = [e for run in failed for e in self.ask(_FAILURES, run=run)["logsForRun"]["events"]]
        entries = [
            e for event in events for e in (event.get("failureMetadata") or {}).get("metadataEntries", ())
        ]
        return "\n".join(entry["mdStr"] for entry in entries if entry["label"] == "partitions")

    def busy(self) -> bool:
        """Whether a run is queued or under way."""
        runs = self.ask(_UNDER_WAY)["runsOrError"]["results"]
        return bool(runs)

    def versions(self) -> Versions:
        with session(self.home) as opened:
            return opened.versions()


def _about(pid: int) -> list[str] | None:
    """What the system tells of a process after its name: state, parent and so on; None where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def lives(pid: int) -> bool:
    """Whether there is a process of that number that has not ended."""
    about = _about(pid)
    return about is not None and about[0] != "Z"


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def until(there: Callable[[], bool]) -> None:
    ends = time.monotonic() + _PATIENCE_S
    while not there():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(_LOOK_AGAIN_S)


def owed(home: Path, **given: object) -> bool:
    planned = call(home, "plan", **{"boosting_rounds": 10, **given})
    return bool(planned["certain"] or planned["possible"])


@contextmanager
def served(home: Path, **settings: object) -> Iterator[Ui]:
    """The home under `my-platform ui`; ``settings`` become MY_PLATFORM_… variables."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    usual: dict[str, object] = {"boosting_rounds": 10, "threads": 1, "sensor_interval_s": 5}
    given = {name.upper(): str(value) for name, value in {**usual, **settings}.items()}
    with open(home.with_name("ui.log"), "a") as log:
        process = subprocess.Popen(
            [str(COMMAND), "--home", str(home), "ui", "--port", str(port)],
            env={**os.environ, **{f"MY_PLATFORM_{name}": value for name, value in given.items()}},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        ui = Ui(home, port, process)
        try:
            until(ui.is_up)
            yield ui
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(60)
