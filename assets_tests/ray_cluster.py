"""A Ray cluster of several nodes on this machine, with a head that takes jobs; gone afterwards with all that it started."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from assets_tests.homes import CHECKOUT
from assets_tests.storage.s3_servers import free_port

START_S, _TRIES = 300, 5
# On loopback and for a test; else it would depend on whether somebody has made a token for this user.
_AUTH = {"RAY_AUTH_MODE": "disabled"}


@dataclass(frozen=True)
class Node:
    """What a node says that it has; Ray gives it out as if it were there."""

    cpus: int = 1
    gpus: int = 0


@contextmanager
def ray_cluster(*nodes: Node) -> Iterator[dict[str, str]]:
    """The environment variables that name a cluster, of which the first node is the head; skips the test without Ray."""
    if None in (importlib.util.find_spec("ray"), importlib.util.find_spec("aiohttp_cors")):
        pytest.skip("the extra `ray` is not installed: pip install -e '.[ray]'")
    # Sockets lie there, whose paths may not be long.
    folder = tempfile.mkdtemp(prefix="mpr_", dir="/tmp")
    processes: list[subprocess.Popen[bytes]] = []
    log = Path(folder, "nodes.log")
    try:
        head, dashboard = _start_node(processes, nodes[0], [], Path(folder, "ray"), log)
        for node in nodes[1:]:
            _start_node(processes, node, [head, dashboard], Path(folder, "ray"), log)
        yield {
            "RAY_ADDRESS": f"http://127.0.0.1:{dashboard}",
            "MY_PLATFORM_RAY_ADDRESS": f"127.0.0.1:{head}",
            **_AUTH,
        }
    finally:
        for process in reversed(processes):
            _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _start_node(
    processes: list["subprocess.Popen[bytes]"], node: Node, ports: list[int], folder: Path, log: Path
) -> list[int]:
    """Start the head, or where ports are given another node; the ports of head and dashboard.

    Ray gives a node half a minute to register, which is not enough on a busy machine: it is tried several times.
    """
    for attempt in range(_TRIES):
        head, dashboard = ports or [free_port(), free_port()]
        own = [f"--num-cpus={node.cpus}", f"--num-gpus={node.gpus}"]
        # Two agents at one port would leave a node where no job can be submitted.
        own.append(f"--dashboard-agent-listen-port={free_port()}")
        where = [f"--address=127.0.0.1:{head}"]
        if not ports:
            where = [
                "--head",
                f"--port={head}",
                f"--dashboard-port={dashboard}",
                f"--temp-dir={folder}{attempt}",
            ]
            where += ["--include-dashboard=true", f"--ray-client-server-port={free_port()}"]
        process = _start([*where, *own], log)
        processes.append(process)
        if _is_up(process, f"http://127.0.0.1:{dashboard}", len(processes)):
            return [head, dashboard]
        processes.pop()
        _end(process)
    raise AssertionError(log.read_text(errors="replace")[-2000:])


def _start(words: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
    with open(log, "ab") as output:
        return subprocess.Popen(
            [*command, "--node-ip-address=127.0.0.1", "--object-store-memory=500000000", *words],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *sys.path]),
                "RAY_enable_metrics_collection": "0",
                **_AUTH,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _is_up(process: "subprocess.Popen[bytes]", url: str, nodes: int) -> bool:
    """Wait until the dashboard knows of so many nodes; False where the process ended meanwhile, or it took too long."""
    ends = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < ends:
        try:
            with urllib.request.urlopen(f"{url}/nodes?view=summary", timeout=5) as answer:
                summary = json.load(answer)["data"]["summary"]
            if sum(node["raylet"].get("state") == "ALIVE" for node in summary) >= nodes:
                return True
        except (urllib.error.URLError, OSError, ValueError, KeyError):
            pass
        time.sleep(0.5)
    return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    """A node ends what it has started."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
