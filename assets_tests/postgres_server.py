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


@contextmanager
def postgres(*more: str) -> Iterator[dict[str, str]]:
    """The environment variables that name an empty database; skips the test where there is no server.

    Args:
        more: the server's settings beside those of the tests, such as ``timezone=America/New_York``.
    """
    initdb, server, ready = (_program(name) for name in ("initdb", "postgres", "pg_isready"))
    with tempfile.TemporaryDirectory(prefix="my_platform_pg_", ignore_cleanup_errors=True) as parent:
        folder = Path(parent, "data")
        # PostgreSQL refuses to run as root.
        user = _NOBODY if getpass.getuser() == "root" or os.geteuid() == 0 else None
        folder.mkdir()
        if user:
            Path(parent).chmod(0o755)
            shutil.chown(folder, user)
        made = subprocess.run(
            [initdb, "-D", str(folder), "-A", "trust", "-U", "platform", "-E", "UTF8", "--no-sync"],
            user=user, cwd=parent, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", *more]
        process = subprocess.Popen(
            [server, "-D", str(folder), "-p", str(port), *(word for o in options for word in ("-c", o))],
            user=user, cwd=parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            ends = time.monotonic() + START_S
            while subprocess.run([ready, "-h", "127.0.0.1", "-p", str(port), "-q"], check=False).returncode:
                assert process.poll() is None, "PostgreSQL ended"
                assert time.monotonic() < ends, "PostgreSQL does not come up"
                time.sleep(0.1)
            yield {
                "PGHOST": "127.0.0.1",
                "PGPORT": str(port),
                "PGUSER": "platform",
                "PGPASSWORD": "none",
                "PGDATABASE": "postgres",
            }
        finally:
            # At once, whoever is still connected: a pool of connections lives as long as its process.
            process.send_signal(signal.SIGINT)
            process.wait(START_S)


def _program(name: str) -> str:
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    program = found[-1] if found else shutil.which(name)
    if program is None:
        pytest.skip(f"there is no {name}; install PostgreSQL (Debian: apt-get install postgresql)")
    return program
