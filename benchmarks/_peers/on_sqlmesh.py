"""SQLMesh on the small domain, by its command line, from a virtual environment of its own."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks._peers.commands import run
from benchmarks._peers.shop import Contents
from benchmarks._peers.system import Answer, Code, Edit, Way
from benchmarks._peers.warehouse import read, written

HERE = Path(__file__).parent
PINS = HERE / "sqlmesh.txt"
_QUIET = {"SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "1", "DO_NOT_TRACK": "1", "NO_COLOR": "1"}


class NotInstalled(Exception):
    """SQLMesh could not be installed here."""


class SQLMesh:
    name = "SQLMesh"
    ways = (
        Way(
            "the next day's `run`",
            "plan --auto-apply --no-prompts --run --execution-time TOMORROW",
            "plan --auto-apply --no-prompts",
        ),
        Way(
            "`plan --restate-model`, the day that landed",
            "plan --auto-apply --no-prompts --restate-model shop.transactions --start DAY --end DAY",
            "plan --auto-apply --no-prompts",
        ),
        Way(
            "`plan --restate-model`, from that day on",
            "plan --auto-apply --no-prompts --restate-model shop.transactions --start DAY",
            "plan --auto-apply --no-prompts",
        ),
    )
    code = Code(
        "models/spending.sql",
        cosmetic=(
            ("SELECT\n  days.day,\n", "-- By customer.\nSELECT days.day,\n"),
            ("GROUP BY\n  days.day,\n  tx.customer_id", "group by days.day, tx.customer_id"),
        ),
        real=(("SUM(tx.amount_cents)", "SUM(tx.amount_cents + 25)"),),
    )

    def __init__(self, cache: Path) -> None:
        self.environment = cache / "sqlmesh"

    def versions(self) -> str:
        wanted = ("sqlmesh", "sqlglot", "duckdb")
        pins = dict(line.split("==") for line in PINS.read_text().splitlines() if "==" in line)
        return ", ".join(f"{name} {pins[name]}" for name in wanted)

    def install(self) -> None:
        """Make the virtual environment, unless it is there with the same pins.

        Raises:
            NotInstalled: pip could not install it; the message is pip's last line.
        """
        mark = self.environment / "pins.txt"
        if mark.exists() and mark.read_text() == PINS.read_text():
            return
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(self.environment)], check=True)
        pip = [str(self.environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-compile"]
        done = subprocess.run([*pip, "-r", str(PINS)], capture_output=True, text=True, timeout=900)
        if done.returncode:
            raise NotInstalled(done.stderr.strip().splitlines()[-1])
        mark.write_text(PINS.read_text())

    def build(self, folder: Path) -> None:
        shutil.copytree(HERE / "sqlmesh", folder, dirs_exist_ok=True)
        first = min(path.stem for path in (folder / "landing" / "transactions").iterdir())
        config = folder / "config.yaml"
        config.write_text(config.read_text().replace("FIRST_DAY", first))
        self._say(folder, "plan --auto-apply --no-prompts")

    def contents(self, folder: Path) -> Contents:
        return read(folder / "store.duckdb", "shop")[0]

    def answer(self, folder: Path, way: Way, edit: Edit) -> Answer:
        _, before = read(folder / "store.duckdb", "shop")
        edit.apply(folder)
        tomorrow = f"{datetime.now(UTC).date() + timedelta(days=1)}T00:30:00"
        self._say(folder, way.on(edit).replace("TOMORROW", tomorrow).replace("DAY", edit.day))
        contents, after = read(folder / "store.duckdb", "shop")
        return Answer(written(before, after), contents)

    def _say(self, folder: Path, words: str) -> None:
        command = [str(self.environment / "bin" / "sqlmesh"), *words.split()]
        run(command, folder, {**os.environ, **_QUIET})
