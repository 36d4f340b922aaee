"""A Ray cluster of several nodes on this machine, with a head that takes jobs; gone afterwards with all that it started."""

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

START_S = 300


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
    head, dashboard = free_port(), free_port()
    processes: list[subprocess.Popen[bytes]] = []
    log = Path(folder, "nodes.log")
    try:
        where = ["--head", f"--port={head}", f"--dashboard-port={dashboard}", f"--temp-dir={folder}/ray"]
        where += ["--include-dashboard=true", f"--ray-client-server-port={free_port()}"]
        for node in nodes:
            processes.append(_start([*where, f"--num-cpus={node.cpus}", f"--num-gpus={node.gpus}"], log))
            where = [f"--address=127.0.0.1:{head}"]
            _wait(processes, f"http://127.0.0.1:{dashboard}", len(processes), log)
        yield {
            "RAY_ADDRESS": f"http://127.0.0.1:{dashboard}",
            "MY_PLATFORM_RAY_ADDRESS": f"127.0.0.1:{head}",
        }
    finally:
        # A node ends what it has started; the head last.
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(processes):
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _start(words: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
    with open(log, "ab") as output:
        return subprocess.Popen(
            [*command, "--node-ip-address=127.0.0.1", "--object-store-memory=500000000", *words],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *sys.path]),
                "RAY_enable_metrics_collection": "0",
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _wait(processes: Sequence["subprocess.Popen[bytes]"], url: str, nodes: int, log: Path) -> None:
    """Wait until the dashboard knows of so many nodes."""
    ends = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/nodes?view=summary", timeout=5) as answer:
                summary = json.load(answer)["data"]["summary"]
            if sum(node["raylet"].get("state") == "ALIVE" for node in summary) >= nodes:
                return
        except (urllib.error.URLError, OSError, ValueError, KeyError):
            pass
        said = log.read_text(errors="replace")[-2000:]
        assert all(process.poll() is None for process in processes), said
        assert time.monotonic() < ends, said
        time.sleep(0.5)
