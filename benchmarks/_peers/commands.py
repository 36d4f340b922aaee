"""Running the commands of the systems."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    """Run a command in a folder; raises RuntimeError with the end of what it printed if it fails."""
    done = subprocess.run(
        command, cwd=folder, env=dict(environment), capture_output=True, text=True, timeout=900
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-3000:]}")
