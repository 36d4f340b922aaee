"""Compare what my_platform, plain Dagster, SQLMesh and dbt compute for the same edits, and what they leave wrong.

Run it as `python -m benchmarks.peers`; with `--write` it puts the tables into docs/comparison.md. Everything is
run here, on small data; SQLMesh is installed from the package registry into a virtual environment of its own.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

from benchmarks._peers import shop
from benchmarks._peers.on_dagster import Dagster
from benchmarks._peers.on_dbt import Dbt, DbtMicrobatch
from benchmarks._peers.on_my_platform import MyPlatform
from benchmarks._peers.on_sqlmesh import NotInstalled, SQLMesh
from benchmarks._peers.system import Answer, Code, Edit, System, Way

PAGE = Path(__file__).parent.parent / "docs" / "comparison.md"
CACHE = Path(tempfile.gettempdir()) / "my_platform_peers"
EDITED_DAYS_AGO = 60
RECENT_DAYS_AGO = 10
DAILY = ("transactions", "spending")
MODEL = ("model",)
ALL = (*DAILY, *MODEL)


@dataclass(frozen=True)
class Column:
    """A column of a table: an edit, and the assets over which it is counted."""

    title: str
    edit: str
    assets: tuple[str, ...]


FOUR_EDITS = (
    Column("1. Identical re-land", "reland", ALL),
    Column("2. Corrected day: daily table and 30-day feature", "correct", DAILY),
    Column("3. Cosmetic edit of the feature's code", "cosmetic", ALL),
    Column("4. Corrected day: model over 120 days", "correct", MODEL),
)
CONTROLS = (
    Column("5. Corrected day, 10 days ago", "recent", ALL),
    Column("6. Corrected column that the feature does not use", "renumber", ALL),
    Column("7. Real edit of the feature's code", "real", ALL),
)


@dataclass(frozen=True)
class Case:
    """What a system did about an edit, and what it should have done."""

    answer: Answer
    owed: frozenset[tuple[str, str]]
    wrong: frozenset[tuple[str, str]]

    def cell(self, assets: tuple[str, ...]) -> str:
        computed = sum(place[0] in assets for place in self.answer.computed)
        wrong = sum(place[0] in assets for place in self.wrong)
        return f"{computed} / {f'**{wrong}**' if wrong else wrong}"


Results = dict[tuple[str, str, str], Case]
"""By system, way and edit."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/comparison.md")
    parser.add_argument("--only", help="systems by name, separated by commas")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder for SQLMesh's environment")
    given = parser.parse_args(arguments)
    if given.write and given.only:
        parser.error("--write needs all systems")
    sqlmesh = SQLMesh(given.cache)
    systems: list[System] = [MyPlatform(), Dagster(), sqlmesh, Dbt(), DbtMicrobatch()]
    if given.only:
        systems = [system for system in systems if system.name in given.only.split(",")]
    missing = ""
    if sqlmesh in systems:
        try:
            sqlmesh.install()
        except NotInstalled as error:
            missing = f"SQLMesh could not be installed here and is left out: {error}"
            systems.remove(sqlmesh)
    last = datetime.now(UTC).date() - timedelta(days=1)
    results: Results = {}
    with tempfile.TemporaryDirectory(prefix="peers_") as folder:
        landing = Path(folder) / "landing"
        shop.land(landing, shop.days_until(last))
        for number, system in enumerate(systems):
            results.update(measure(system, Path(folder) / str(number), landing, last))
    text = "\n".join([*tables(systems, results), *([missing, ""] if missing else [])])
    print(text)
    if given.write:
        write(text)
    return 0


def edits(code: Code, last: date) -> dict[str, Edit]:
    """The edits of the comparison, for a system whose code lies there."""
    day, recent = last - timedelta(days=EDITED_DAYS_AGO), last - timedelta(days=RECENT_DAYS_AGO)
    return {
        "reland": Edit(lambda folder: shop.reland(folder / "landing", day), "data", str(day)),
        "correct": Edit(lambda folder: shop.correct(folder / "landing", day), "data", str(day)),
        "renumber": Edit(lambda folder: shop.renumber(folder / "landing", day), "data", str(day)),
        "recent": Edit(lambda folder: shop.correct(folder / "landing", recent), "data", str(recent)),
        "cosmetic": Edit(partial(_replace, code.file, code.cosmetic), "code"),
        "real": Edit(partial(_replace, code.file, code.real), "code", real=True),
    }


def _replace(file: str, replacements: Sequence[tuple[str, str]], folder: Path) -> None:
    path = folder / file
    text = path.read_text()
    for old, new in replacements:
        if text.count(old) != 1:
            raise AssertionError(f"{path} has {text.count(old)} times: {old}")
        text = text.replace(old, new)
    path.write_text(text)


def measure(system: System, folder: Path, landing: Path, last: date) -> Results:
    """Build a system once, then give it each edit in each of its ways, always from that build."""
    started = time.perf_counter()
    folder.mkdir()
    shutil.copytree(landing, folder / "landing")
    system.build(folder)
    before = shop.expected(landing)
    if system.contents(folder) != before:
        raise AssertionError(f"{system.name} does not give the expected values when it builds from scratch")
    built = folder.with_name(f"{folder.name}.built")
    folder.rename(built)
    _tell(f"{system.versions()}: built in {time.perf_counter() - started:.0f} s")
    found: Results = {}
    for way in system.ways:
        for name, edit in edits(system.code, last).items():
            started = time.perf_counter()
            shutil.copytree(built, folder)
            case = judge(system, folder, way, edit, before)
            shutil.rmtree(folder)
            found[system.name, way.name, name] = case
            _tell(
                f"{system.name}, {way.name}, {name}: {len(case.answer.computed)} computed, {len(case.owed)} owed, "
                f"{len(case.wrong)} wrong, {time.perf_counter() - started:.0f} s"
            )
    return found


def judge(system: System, folder: Path, way: Way, edit: Edit, before: shop.Contents) -> Case:
    """Give a system an edit, and hold what it shows afterwards against a build from scratch."""
    was = _landed(folder)
    answer = system.answer(folder, way, edit)
    after = shop.expected(folder / "landing", fee_cents=25 if edit.real else 0)
    landed = {date.fromisoformat(day) for day, data in _landed(folder).items() if was[day] != data}
    return Case(
        answer,
        frozenset(shop.owed(before, after, landed, {"spending"} if edit.real else set())),
        frozenset(
            place for place in after | answer.contents if after.get(place) != answer.contents.get(place)
        ),
    )


def _landed(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in (folder / "landing" / "transactions").iterdir()}


def tables(systems: Sequence[System], results: Results) -> list[str]:
    """Both tables, in Markdown."""
    lines = []
    for columns in (FOUR_EDITS, CONTROLS):
        lines.append("| | " + " | ".join(column.title for column in columns) + " |")
        lines.append("|---|" + "---|" * len(columns))
        owed = []
        for column in columns:
            counts = {
                sum(place[0] in column.assets for place in case.owed)
                for (_, _, edit), case in results.items()
                if edit == column.edit
            }
            (count,) = counts
            owed.append(f"{count} / 0")
        lines.append("| **owed** | " + " | ".join(owed) + " |")
        for system in systems:
            for way in system.ways:
                cells = [
                    results[system.name, way.name, column.edit].cell(column.assets) for column in columns
                ]
                lines.append(f"| {system.name}: {way.name} | " + " | ".join(cells) + " |")
        lines.append("")
    versions = "; ".join(dict.fromkeys(system.versions() for system in systems))
    lines += [f"Measured with {versions}; Python {sys.version.split()[0]}.", ""]
    return lines


def write(text: str) -> None:
    """Put the tables between the marks of the page."""
    begin, end = "<!-- written by benchmarks/peers.py -->\n", "<!-- end -->"
    page = PAGE.read_text()
    head, _, rest = page.partition(begin)
    _, found, tail = rest.partition(end)
    if not found:
        raise SystemExit(f"{PAGE} has lost the marks {begin.strip()} and {end}; put them back")
    PAGE.write_text(f"{head}{begin}\n{text}\n{end}{tail}")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
