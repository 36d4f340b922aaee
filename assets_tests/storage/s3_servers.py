"""S3-compatible servers on loopback: moto in this process, and Ceph's RADOS gateway as real software."""

import contextlib
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

CEPH_PROGRAMS = (
    "ceph-mon",
    "ceph-mgr",
    "ceph-osd",
    "radosgw",
    "radosgw-admin",
    "monmaptool",
    "ceph-authtool",
)
# What the servers of tests are asked with.
KEY, SECRET, REGION = "test", "testtest", "us-east-1"
CEPH_PACKAGES = "ceph-mon ceph-mgr ceph-osd radosgw ceph-common"


def variables(url: str) -> dict[str, str]:
    """The environment variables by which clients find a server, and may ask it without TLS."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
        "AWS_ALLOW_HTTP": "true",
    }


@contextlib.contextmanager
def moto_server() -> Iterator[str]:
    """A threaded moto server; gives its URL."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


class Asked(logging.Handler):
    """Counts what moto's servers in this process are asked, by method; a listing is a method of its own."""

    _LINE = re.compile(r'"(?:\x1b\[[0-9;]*m)*([A-Z]+) (\S+) HTTP')

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.by_method: Counter[str] = Counter()
        self.puts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        found = self._LINE.search(record.getMessage())
        if found is None:
            return
        method, path = found.groups()
        self.by_method["LIST" if method == "GET" and "list-type=" in path else method] += 1
        if method == "PUT":
            self.puts[path] += 1

    @property
    def total(self) -> int:
        return self.by_method.total()


@contextlib.contextmanager
def asked() -> Iterator[Asked]:
    """What moto's servers in this process are asked meanwhile."""
    log, counting = logging.getLogger("werkzeug"), Asked()
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(counting)
    try:
        yield counting
    finally:
        log.removeHandler(counting)
        log.setLevel(level)


def missing_for_ceph() -> list[str]:
    """What a Ceph server needs and this machine lacks."""
    missing = [program for program in CEPH_PROGRAMS if shutil.which(program) is None]
    return [*missing, *(["root"] if os.geteuid() else [])]


@contextlib.contextmanager
def ceph_server(folder: Path, access_key: str, secret_key: str) -> Iterator[str]:
    """One monitor, one manager, one storage daemon and one gateway with their data in a folder; gives the URL.

    Takes about 20 seconds, 1 GiB of memory and 6 GiB of sparse disk. Needs root.
    """
    port = free_port()
    config = _configure(folder, port)
    try:
        _start(folder, config)
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, seconds=60)
        user = ["radosgw-admin", "user", "create", "--uid=test", "--display-name=test"]
        _run(folder, config, *user, f"--access-key={access_key}", f"--secret-key={secret_key}")
        yield url
    finally:
        _stop(folder)


def kill_gateway(folder: Path) -> None:
    """Kill the gateway of a Ceph server as it is; what it has acknowledged lies with the storage daemon."""
    (pid,) = (int(file.read_text()) for file in (folder / "run").glob("client.rgw*.pid"))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.01)


def start_gateway(folder: Path, url: str) -> None:
    """Start a gateway that was killed, and wait until it answers."""
    _run_gateway(folder, folder / "ceph.conf")
    _wait_for(url, seconds=60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _configure(folder: Path, port: int) -> Path:
    for name in ("mon", "osd", "mgr", "rgw", "run", "log"):
        (folder / name).mkdir(parents=True)
    config = folder / "ceph.conf"
    config.write_text(
        f"""
[global]
fsid = {uuid.uuid4()}
mon host = [v2:127.0.0.1:{free_port()}]
public network = 127.0.0.0/8
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {folder}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
pid file = {folder}/run/$name.pid
log file = {folder}/log/$name.log
[mon.a]
mon data = {folder}/mon
mon initial members = a
[mgr.x]
mgr data = {folder}/mgr
[osd.0]
osd data = {folder}/osd
osd objectstore = bluestore
bluestore block create = true
bluestore block size = {6 << 30}
bluestore cache autotune = false
osd memory target = 939524096
[client.rgw]
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw dns name = 127.0.0.1
rgw thread pool size = 64
"""
    )
    return config


def _start(folder: Path, config: Path) -> None:
    settings = dict(line.split(" = ", 1) for line in config.read_text().splitlines() if " = " in line)
    monitors, disk, keys = str(folder / "monmap"), str(uuid.uuid4()), str(folder / "keyring")
    everything = [word for part in ("mon", "osd", "mgr") for word in ("--cap", part, "allow *")]
    for number, name in enumerate(("mon.", "client.admin", "client.rgw", "mgr.x", "osd.0")):
        create = () if number else ("--create-keyring",)
        _run(folder, None, "ceph-authtool", keys, *create, "--gen-key", "-n", name, *everything)
    _run(
        folder,
        None,
        "monmaptool",
        "--create",
        "--fsid",
        settings["fsid"],
        "--addv",
        "a",
        settings["mon host"],
        monitors,
    )
    _run(folder, config, "ceph-mon", "--mkfs", "-i", "a", "--monmap", monitors, "--keyring", keys)
    _run(folder, config, "ceph-mon", "-i", "a")
    _run(folder, config, "ceph-mgr", "-i", "x")
    _run(folder, config, "ceph", "osd", "new", disk, "0")
    _run(folder, config, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
    _run(folder, config, "ceph-osd", "-i", "0")
    _run(folder, config, "ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=here")
    _run_gateway(folder, config)


def _run_gateway(folder: Path, config: Path) -> None:
    _run(folder, config, "radosgw", "-n", "client.rgw", "--setuser", "root", "--setgroup", "root")


def _run(folder: Path, config: Path | None, *command: str) -> None:
    configured = [command[0], *(["-c", str(config)] if config else []), *command[1:]]
    with open(folder / "log" / "start.log", "ab") as log:
        done = subprocess.run(
            configured, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=120, check=False
        )
    if done.returncode:
        tail = (folder / "log" / "start.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(configured)} ended with {done.returncode}:\n{tail}")


def _wait_for(url: str, *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _stop(folder: Path) -> None:
    """End the daemons that were started from the folder, by the process ids that they wrote down."""
    running = []
    for file in (folder / "run").glob("*.pid"):
        with contextlib.suppress(ValueError, ProcessLookupError):
            running.append(int(file.read_text()))
            os.kill(running[-1], signal.SIGTERM)
    end = time.monotonic() + 15
    while time.monotonic() < end and any(Path(f"/proc/{pid}").exists() for pid in running):
        time.sleep(0.1)
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
