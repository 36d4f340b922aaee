"""What it takes until the former champion serves again, by the real command.

`make bench BENCHMARKS=rollback ARGS=--write`; `--home DIR` takes a copy of a home that has two champions.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks._homes import FIRST
from benchmarks._report import Cost, machine, platform_command, publish, run, table, temporary_folder

T = TypeVar("T")
_DAYS = 56
_IMPORTS = "import my_platform.cli, my_platform.learning.registry, my_platform.learning.tracking"
# The command as far as the ledger.
_TO_THE_LEDGER = (
    f"{_IMPORTS}; my_platform.learning.registry.Registry.set_aliases = lambda *_: None; "
    "my_platform.cli.app(['rollback'])"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="a home with two champions; default: one is built")
    parser.add_argument("--times", type=int, default=5, help="rollbacks, each on a copy of the home")
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    options = parser.parse_args()
    load = os.getloadavg()
    with temporary_folder() as folder:
        home = options.home or _two_champions(folder / "home")
        python = [sys.executable, "-c"]
        commands = {
            "imports": [*python, _IMPORTS],
            "ledger": [*python, _TO_THE_LEDGER],
            "whole": platform_command("rollback"),
        }
        spent: dict[str, list[Cost]] = {name: [] for name in commands}
        restored = []
        for _ in range(options.times):
            restored.append(_on_a_copy(home, folder / "copy", _until_it_serves))
            for name, command in commands.items():
                spent[name].append(_on_a_copy(home, folder / "copy", partial(_run, command)))
    said = min(float(cost.output.rpartition("(")[2].partition(" s)")[0]) for cost in spent["whole"])
    processor = {name: f"{min(cost.cpu_s for cost in costs):.2f}" for name, costs in spent.items()}
    rows = [
        ["the former bundle checked and the ledger written", f"{said:.2f}", ""],
        [
            "from the shell until the ledger names the former bundle",
            f"{min(restored):.2f}",
            processor["ledger"],
        ],
        [
            "of that, starting Python and importing",
            f"{min(cost.wall_s for cost in spent['imports']):.2f}",
            processor["imports"],
        ],
        [
            "until the command ends, MLflow's aliases set",
            f"{min(cost.wall_s for cost in spent['whole']):.2f}",
            processor["whole"],
        ],
    ]
    publish(
        "rollback",
        "Rolling back",
        "make bench BENCHMARKS=rollback ARGS=--write",
        [
            f"Rolling back from the shell on a home with two champions of LightGBM; the best of {options.times}, each on a copy, "
            "as other work on the machine only ever slows one. What serves is what the ledger names: the aliases in MLflow "
            "follow after it.",
            "",
            *table(["", "s by the clock", "processor s"], rows),
            "",
            machine(load),
        ],
        write=options.write,
    )


def _on_a_copy(home: Path, copy: Path, measured: Callable[[Path], T]) -> T:
    """What is measured on a copy of the home, which is gone afterwards."""
    shutil.copytree(home, copy)
    try:
        return measured(copy)
    finally:
        shutil.rmtree(copy)


def _run(command: Sequence[str], home: Path) -> Cost:
    return run(command, {"MY_PLATFORM_HOME": str(home)})


def _two_champions(home: Path) -> Path:
    """A home of simulated days with a champion and the one before it."""
    of_home = {"MY_PLATFORM_HOME": str(home)}
    simulated = ("--days", str(_DAYS), "--start", str(FIRST), "--customers", "600", "--terminals", "1000")
    run(platform_command("simulate", *simulated), of_home)
    run(platform_command("prepare"), of_home)
    run(platform_command("refresh"), of_home)
    weeks = sorted(path.name for path in (home / "lake" / "fraud_lightgbm").iterdir())
    for week in weeks[-2:]:
        name = f"fraud_lightgbm@{week}"
        run(platform_command("promote", name, "--force", "--reason", "to be rolled back"), of_home)
    return home


def _until_it_serves(home: Path) -> float:
    """Seconds from the start of the command until the ledger has one line more."""
    ledger = home / "registry" / "promotions.jsonl"
    before, started = ledger.stat().st_size, time.perf_counter()
    with subprocess.Popen(
        platform_command("rollback"),
        env={**os.environ, "MY_PLATFORM_HOME": str(home), "PYTHONDONTWRITEBYTECODE": ""},
        stdout=subprocess.DEVNULL,
    ) as process:
        while ledger.stat().st_size == before and process.poll() is None:
            time.sleep(0.002)
        seconds = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"the rollback ended with {process.returncode}")
    return seconds


if __name__ == "__main__":
    main()
