"""Machines that share a bucket and a database: each is a folder of its own that holds nothing the others need."""

import subprocess
import sys
from pathlib import Path

from assets_tests.homes import start

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

    def stuck(self, after_heads: int, *words: str) -> subprocess.Popen[str]:
        """A command that holds the lock under which heads are set, and will not let go of it."""
        command = (sys.executable, "-c", _STUCK, str(after_heads))
        process = start(self.home, *words, command=command, **self.settings)  # type: ignore[arg-type]
        assert process.stdout is not None
        assert process.stdout.readline() == "stuck\n", process.communicate()
        return process
