"""Dagster's web server and daemon on a home."""

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from types import FrameType

from my_platform.errors import HomeError, PlatformError
from my_platform.operations.home import (
    data_span,
    open_instance,
    open_workspace,
    prepare_domains,
    prepare_home,
)
from my_platform.operations.orphans import end_orphans, end_unbegun
from my_platform.settings import CHECKOUT, Settings

LOOPBACK = "127.0.0.1"
_WORKSPACE = CHECKOUT / "workspace.yaml"
_LOCATION = "my_platform"
# That there is `dg dev` now, which needs the folder of the checkout, is no news to who starts this.
_DAGSTER_DEV = [
    *(sys.executable, "-W", "ignore:Function `dev_command` is superseded"),
    *("-m", "dagster", "dev"),
]
_RELOAD = """mutation ($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) {
    ... on WorkspaceLocationEntry { locationOrLoadError { __typename } } } }"""
_RELOAD_TIMEOUT_S = 300
_END_TIMEOUT_S = 30
# PR_SET_PDEATHSIG of prctl(2).
_SET_DEATH_SIGNAL = 1


def serve(settings: Settings, port: int) -> int:
    """Run ``dagster dev`` on loopback until it ends or this process is told to; its exit code.

    Raises:
        PlatformError: the port is taken, or another process serves this home.
    """
    prepare_home(settings)
    prepare_domains(settings)
    # SIGINT too: a shell starts what runs in the background with it ignored, and Dagster would inherit that.
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _interrupt)
    with _only_one(settings):
        _check_port(port)
        with open_instance(settings) as instance:
            end_orphans(instance)
            if settings.profile == "embedded":
                end_unbegun(instance)
        process = subprocess.Popen(
            [*_DAGSTER_DEV, "-w", str(_WORKSPACE), "-h", LOOPBACK, "-p", str(port)],
            env=_environment(settings),
            cwd=settings.dagster_home,
            start_new_session=True,
            preexec_fn=_end_with_parent(),
        )
        try:
            _watch(process, settings, port)
        except KeyboardInterrupt:
            return 0
        finally:
            _end(process)
        return process.returncode


def _end_with_parent() -> Callable[[], None] | None:
    """For the child to call: it is interrupted when this process dies, also where that is killed.

    A daemon that outlived it would be the second one as soon as the home is served again. None where the system is no Linux.
    """
    if not sys.platform.startswith("linux"):
        return None
    control, parent = ctypes.CDLL(None).prctl, os.getpid()

    def bind() -> None:
        control(_SET_DEATH_SIGNAL, signal.SIGINT)
        if os.getppid() != parent:
            os._exit(1)

    return bind


def _environment(settings: Settings) -> dict[str, str]:
    # A domain of the user's own is a module in the folder where the command is called.
    paths = [os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "DAGSTER_HOME": str(settings.dagster_home),
        "MY_PLATFORM_HOME": str(settings.home),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(paths),
    }


def _watch(process: subprocess.Popen[bytes], settings: Settings, port: int) -> None:
    """Wait for the end. A day that lands outside of the calendar has the definitions loaded anew."""
    workspace = open_workspace(settings)
    loaded = data_span(settings, workspace)
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=settings.sensor_interval_s)
            return
        try:
            span = data_span(settings, workspace)
            if span != loaded and _reload(port):
                loaded = span
        except (PlatformError, OSError) as error:
            sys.stderr.write(f"my-platform: landing could not be looked at: {error}\n")


def _reload(port: int) -> bool:
    """Have Dagster load the definitions again; whether it did."""
    request = urllib.request.Request(
        f"http://{LOOPBACK}:{port}/graphql",
        json.dumps({"query": _RELOAD, "variables": {"name": _LOCATION}}).encode(),
        {"Content-Type": "application/json"},
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=_RELOAD_TIMEOUT_S) as response:
            answer = json.load(response)
    except (urllib.error.URLError, TimeoutError):
        return False
    entry = (answer.get("data") or {}).get("reloadRepositoryLocation") or {}
    return (entry.get("locationOrLoadError") or {}).get("__typename") == "RepositoryLocation"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End Dagster and all that it started.

    ``dagster dev`` ends its children when it is interrupted, and leaves them running when it is terminated.
    """
    try:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(_END_TIMEOUT_S)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Two daemons on one home confuse each other's backfills."""
    with open(settings.dagster_home / "ui.lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeError(
                f"another my-platform ui serves the home {settings.home}; use that one or end it"
            ) from None
        yield


def is_served(settings: Settings) -> bool:
    """Whether a `my-platform ui` holds the lock of a home."""
    with contextlib.suppress(FileNotFoundError), open(settings.dagster_home / "ui.lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise PlatformError(
                f"port {port} of {LOOPBACK} cannot be used: {error.strerror}; choose another one with --port"
            ) from error


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
