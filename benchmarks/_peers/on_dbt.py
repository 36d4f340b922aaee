"""dbt on the small domain, by its command line: incremental models, and microbatch models for backfills."""

import json
import os
import shutil
import sys
from datetime import date, timedelta
from importlib.metadata import version
from pathlib import Path

from benchmarks._peers.commands import run
from benchmarks._peers.shop import Contents
from benchmarks._peers.system import Answer, Code, Edit, Way
from benchmarks._peers.warehouse import read, written

HERE = Path(__file__).parent
_FRESHER = "build --select source_status:fresher+ --state state"
_BACKFILL = "run --event-time-start DAY --event-time-end"


class Dbt:
    """Incremental models of the strategy delete+insert, whose unique key is the day."""

    name = "dbt"
    models = "incremental"
    ways = (
        Way(
            "`source_status:fresher+`; `state:modified+`",
            _FRESHER,
            "build --select state:modified+ --state state",
        ),
        Way(
            "the same with `--full-refresh`",
            f"{_FRESHER} --full-refresh",
            "build --select state:modified+ --state state --full-refresh",
        ),
    )
    code = Code(
        "models/spending.sql",
        cosmetic=(
            ("select\n    days.day,\n", "-- By customer.\nselect days.day,\n"),
            ("group by days.day, tx.customer_id", "group by\n    days.day,\n    tx.customer_id"),
        ),
        real=(("sum(tx.amount_cents)", "sum(tx.amount_cents + 25)"),),
    )

    def versions(self) -> str:
        return ", ".join(f"{name} {version(name)}" for name in ("dbt-core", "dbt-duckdb", "duckdb"))

    def build(self, folder: Path) -> None:
        shutil.copytree(HERE / "dbt" / self.models, folder / "models")
        for name in ("dbt_project.yml", "profiles.yml"):
            shutil.copy(HERE / "dbt" / name, folder)
        shutil.copy(HERE / "dbt" / "landed.yml", folder / "models")
        _say(folder, "source freshness")
        _say(folder, "build")
        # What a later command compares with: the manifest and the freshness of this one.
        shutil.copytree(folder / "target", folder / "state")

    def contents(self, folder: Path) -> Contents:
        return read(folder / "store.duckdb", "main")[0]

    def answer(self, folder: Path, way: Way, edit: Edit) -> Answer:
        _, before = read(folder / "store.duckdb", "main")
        edit.apply(folder)
        words = way.on(edit)
        if "fresher" in words:
            _say(folder, "source freshness")
        after_day = str(date.fromisoformat(edit.day) + timedelta(days=1)) if edit.day else ""
        _say(folder, words.replace("NEXT", after_day).replace("DAY", edit.day))
        contents, after = read(folder / "store.duckdb", "main")
        return Answer(written(before, after), contents)


class DbtMicrobatch(Dbt):
    """Microbatch models, one batch a day, that are backfilled by event time."""

    models = "microbatch"
    ways = (
        Way(
            "microbatch, `--event-time-start/-end` of the day that landed",
            f"{_BACKFILL} NEXT",
            "build --select state:modified+ --state state",
        ),
        Way(
            "microbatch, `--event-time-start/-end` from that day on",
            f"{_BACKFILL} {date.today() + timedelta(days=1)}",
            "build --select state:modified+ --state state",
        ),
    )


def _say(folder: Path, words: str) -> None:
    first = min(path.stem for path in (folder / "landing" / "transactions").iterdir())
    command = [
        str(Path(sys.executable).parent / "dbt"),
        *words.split(),
        "--vars",
        json.dumps({"first_day": first}),
    ]
    run(command, folder, {**os.environ, "DO_NOT_TRACK": "1", "DBT_PROFILES_DIR": str(folder)})
