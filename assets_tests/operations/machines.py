"""Machines that share a bucket and a database: each is a folder of its own that holds nothing the others need."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assets_tests.homes import CHECKOUT, start

DOMAIN = "assets_tests.operations.shop"

# A command that says when it has set so many heads, and then does nothing, with the lock in its hands.
_STUCK = """
import sys, time
from my_platform.operations.heads import DagsterHeads
left, emit = [int(sys.argv.pop(1))], DagsterHeads.emit
def gets_stuck(self, *arguments):
    emit(self, *arguments)
    left[0] -= 1
    if not left[0]:
        print("stuck", flush=True)
        time.sleep(3_600)
DagsterHeads.emit = gets_stuck
from my_platform.cli import main
main()
"""


class Machine:
    """A machine on a bucket and the database of the PG… variables."""

    def __init__(self, home: Path, bucket_url: str) -> None:
        self.home = home
        self.bucket_url = bucket_url
        self.settings = {"domains": DOMAIN, "profile": "server", "bucket_url": bucket_url}

    def start(self, *words: str, **more: object) -> subprocess.Popen[str]:
        """A command, which is not waited for."""
        return start(self.home, *words, **{**self.settings, **more})

    @contextmanager
    def stuck(self, after_heads: int, *words: str) -> Iterator[None]:
        """A command holds the lock under which heads are set and will not let go of it; in the end it is killed."""
        command = (sys.executable, "-c", _STUCK, str(after_heads))
        process = start(self.home, *words, command=command, **self.settings)  # type: ignore[arg-type]
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "stuck\n", process.communicate()
            yield
        finally:
            process.kill()
            process.communicate()

    @contextmanager
    def daemon(self) -> Iterator[subprocess.Popen[bytes]]:
        """The daemon, whose sensor requests what is owed; it and its runs are killed in the end, if they live."""
        given = {**self.settings, "home": self.home, "sensor_interval_s": 5, "threads": 1, "quiet_s": 0}
        with open(self.log, "a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dagster._daemon", "run", "-m", "my_platform.definitions"],
                env={
                    **os.environ,
                    "PYTHONPATH": str(CHECKOUT),
                    "DAGSTER_HOME": str(self.home / "dagster"),
                    **self._of_logs,
                    **{f"MY_PLATFORM_{name.upper()}": str(value) for name, value in given.items()},
                },
                cwd=self.home.parent, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    @property
    def log(self) -> Path:
        """What the daemon prints."""
        return self.home.with_suffix(".log")

    @property
    def _of_logs(self) -> dict[str, str]:
        bucket, _, prefix = self.bucket_url.removeprefix("s3://").partition("/")
        return {"DAGSTER_LOGS_BUCKET": bucket, "DAGSTER_LOGS_PREFIX": f"{prefix}/compute-logs"}
