"""The fault scorecard: `python -m assets_tests.faults.scorecard [--write]`, or `make faults`.

Each fault is brought about by itself in a copy of one healthy home, and each clean control too.
"""

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from assets_tests.faults.registry import CONTROLS, FAULTS, Control, Fault
from assets_tests.faults.scene import FIRST, Scene, prepare, scene
from assets_tests.faults.verdicts import Check, Verdict, failed_checks
from assets_tests.homes import CHECKOUT, Versions, folder_in_memory
from my_platform.domains.fraud.simulator import SimulatorConfig, land_simulation

for _module in ("of_columns", "of_rows", "of_files", "of_learning", "of_statistics", "controls"):
    import_module(f"assets_tests.faults.{_module}")

PAGE = CHECKOUT / "docs" / "faults.md"
_HEAD = """# The fault scorecard

Each fault is brought about by itself in a copy of one healthy home (42 simulated days, models and reports
included), as another delivery of one day. It must be detected where the table says, with a message that names
file, partition and column where there is one; the last good version must stay current, nothing may be computed
from the bad rows, and a second refresh must say it again without a run. `make faults` runs it and prints this
table; `make faults ARGS=--write` writes this page.

"""


@dataclass(frozen=True)
class Line:
    """A line of the scorecard."""

    name: str
    expected: str
    verdict: Verdict


def judge(fault: Fault, healthy: Path, before: Versions) -> Verdict:
    """Bring a fault about in a copy of the healthy home, and see what becomes of it."""
    return _in_copy(healthy, before, lambda found: (fault.inject(found), fault.expected.judge(found))[1])


def alarms(control: Control, healthy: Path, before: Versions) -> list[str]:
    """What a clean control raises, which is to be nothing."""

    def look(found: Scene) -> list[str]:
        control.inject(found)
        with found.session() as session:
            report = session.refresh()
            quarantined = session.quarantined(None, None)
            failed = [words for said in failed_checks(session).values() for words in said.values()]
        return [*report.problems, *report.misnamed, *map(str, quarantined), *failed]

    return _in_copy(healthy, before, look)


def alarms_of_clean_days(days: int) -> list[str]:
    """What that many simulated days raise, their tables checked one after the other."""
    with folder_in_memory() as folder:
        config = SimulatorConfig(customers=150, terminals=300)
        land_simulation(folder / "home" / "landing", first=FIRST, days=days, config=config, closed=True)
        with Scene(folder / "home", {}).session() as session:
            tables = [name for name in session.workspace.project.assets if name.startswith("checks/")]
            report = session.refresh(select=" or ".join(f'+key:"{name}"' for name in tables))
            quarantined = session.quarantined(None, None)
            computed = report.outcome.computed["validated/transactions"]
            failed = [words for said in failed_checks(session).values() for words in said.values()]
        assert len(computed) == days
        return [*report.problems, *map(str, quarantined), *failed]


def check_names() -> set[str]:
    """The checks that the platform has, by name."""
    with tempfile.TemporaryDirectory() as folder:
        found = Scene(Path(folder), {})
        with found.session() as session:
            return {key.name for key in session.definitions.resolve_asset_graph().asset_check_keys}


def _in_copy(healthy: Path, before: Versions, look: Callable[[Scene], Any]) -> Any:
    zone = os.environ.get("TZ")
    try:
        with folder_in_memory() as folder, scene(healthy, before, folder) as found:
            return look(found)
    finally:
        os.environ.pop("TZ", None) if zone is None else os.environ.update(TZ=zone)
        time.tzset()


def as_table(lines: list[Line], awaited: Mapping[str, str], raised: Mapping[str, list[str]]) -> str:
    """The scorecard as Markdown."""
    found = sum(line.verdict.good for line in lines)
    false = sum(bool(words) for words in raised.values())
    rows = [
        f"| {line.name} | {line.expected} | {line.verdict.contained if line.verdict.good else '**missed**'} "
        f"| {_cell(line.verdict.message)} |"
        for line in lines
    ]
    rows += [f"| {name} | {by} | not judged yet | |" for name, by in awaited.items()]
    more = f", {len(awaited)} more are not judged yet" if awaited else ""
    controls = [f"| {name} | {'; '.join(words) or 'nothing'} |" for name, words in raised.items()]
    return "\n".join(
        [
            f"{found} of {len(lines)} faults are detected and contained{more}; "
            f"{false} of {len(raised)} clean controls raise anything.",
            "",
            "| fault | detected by | contained | what was said |",
            "|---|---|---|---|",
            *rows,
            "",
            "| clean control | raised |",
            "|---|---|",
            *controls,
            "",
        ]
    )


def _cell(message: str) -> str:
    text = re.sub(r"\S*/home/(?=landing|lake)", "", message.replace("|", "\\|").replace("\n", " "))
    return text if len(text) <= 260 else f"{text[:257]}…"


def main(arguments: list[str]) -> int:
    os.environ["MY_PLATFORM_QUIET_S"] = "0"
    with folder_in_memory() as folder:
        before = prepare(folder / "healthy")
        awaited: dict[str, str] = {}
        judged = dict(FAULTS)
        there = check_names()
        for name, fault in FAULTS.items():
            if isinstance(fault.expected, Check) and there.isdisjoint(fault.expected.names):
                awaited[name] = judged.pop(name).expected.where
        lines, raised = [], {}
        for name, fault in judged.items():
            lines.append(Line(name, fault.expected.where, judge(fault, folder / "healthy", before)))
            verdict = lines[-1].verdict
            sys.stderr.write(
                f"{'ok    ' if verdict.good else 'MISSED'} {name} {'; '.join(verdict.missing)}\n"
            )
        for name, control in CONTROLS.items():
            raised[name] = alarms(control, folder / "healthy", before)
    raised["100 clean days"] = alarms_of_clean_days(100)
    table = as_table(lines, awaited, raised)
    sys.stdout.write(table)
    if "--write" in arguments:
        PAGE.write_text(_HEAD + table)
    return 0 if all(line.verdict.good for line in lines) and not any(raised.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
