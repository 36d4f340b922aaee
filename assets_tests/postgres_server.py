"""A real PostgreSQL server on loopback, run by a user without rights, with its data in a folder that is gone afterwards."""

import getpass
import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

START_S = 60
_NOBODY = "nobody"


class Server:
    """A server that can be killed and started again; skips the test where there is none.

    Args:
        parent: the folder that gets its data.
        more: settings beside those of the tests, such as ``timezone=America/New_York``.
    """

    def __init__(self, parent: Path, *more: str) -> None:
        initdb, self._server, self._ready = (_program(name) for name in ("initdb", "postgres", "pg_isready"))
        self.parent = parent
        self.more = more
        # PostgreSQL refuses to run as root.
        self._user = _NOBODY if getpass.getuser() == "root" or os.geteuid() == 0 else None
        folder = parent / "data"
        folder.mkdir()
        if self._user:
            parent.chmod(0o755)
            shutil.chown(folder, self._user)
        made = subprocess.run(
            [initdb, "-D", str(folder), "-A", "trust", "-U", "platform", "-E", "UTF8", "--no-sync"],
            user=self._user, cwd=parent, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that name its database."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": "platform",
            "PGPASSWORD": "none",
            "PGDATABASE": "postgres",
        }

    def start(self) -> None:
        """Start it and wait until it answers; one that was killed leaves memory that keeps the next one out for a moment."""
        ends = time.monotonic() + START_S
        self._begin()
        while subprocess.run(
            [self._ready, "-h", "127.0.0.1", "-p", str(self.port), "-q"], check=False
        ).returncode:
            assert time.monotonic() < ends, "PostgreSQL does not come up"
            time.sleep(0.1)
            if self.process.poll() is not None:
                self._begin()

    def _begin(self) -> None:
        options = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", *self.more]
        self.process = subprocess.Popen(
            [self._server, "-D", str(self.parent / "data"), "-p", str(self.port),
             *(word for o in options for word in ("-c", o))],
            user=self._user, cwd=self.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def kill(self) -> None:
        """Kill it as it is."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it at once, whoever is still connected: a pool of connections lives as long as its process."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(START_S)


@contextmanager
def postgres(*more: str) -> Iterator[dict[str, str]]:
    """The environment variables that name an empty database; see ``Server``."""
    with server(*more) as running:
        yield running.variables


@contextmanager
def server(*more: str) -> Iterator[Server]:
    """A running server, with its data in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="my_platform_pg_", ignore_cleanup_errors=True) as parent:
        made = Server(Path(parent), *more)
        made.start()
        try:
            yield made
        finally:
            made.stop()


def _program(name: str) -> str:
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    program = found[-1] if found else shutil.which(name)
    if program is None:
        pytest.skip(f"there is no {name}; install PostgreSQL (Debian: apt-get install postgresql)")
    return program
