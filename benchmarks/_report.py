"""What the benchmarks share: processes with their cost, the machine, and the sections of docs/benchmarks.md."""

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
DOCUMENT = CHECKOUT / "docs" / "benchmarks.md"
HANDBOOK = Path(os.environ.get("MY_PLATFORM_HANDBOOK", CHECKOUT / "../shared/data/handbook/transactions"))
_LIBRARIES = ("dagster", "polars", "numpy", "pyarrow", "duckdb", "dbt-core", "lightgbm", "mlflow", "xxhash")
_TITLE = (
    "# Benchmarks\n\nEach section is written by the command that it names; nothing in it is typed by hand.\n"
)


@dataclass(frozen=True)
class Cost:
    """What a process cost: wall-clock and processor seconds, and the largest process of its tree in bytes."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    output: str


# Bytecode is kept unless somebody forbids it, here for both sides of a comparison.
_AS_INSTALLED = {"OMP_WAIT_POLICY": "passive", "PYTHONDONTWRITEBYTECODE": ""}


def run(
    command: Sequence[str], environment: Mapping[str, str] | None = None, *, timeout_s: int = 3600
) -> Cost:
    """Run a command in the checkout and measure it with all that it started.

    Raises:
        RuntimeError: it failed or took too long; the end of what it printed is in the message.
    """
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env={**os.environ, **_AS_INSTALLED, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            wall_s = time.perf_counter() - started
            if pid:
                break
            if wall_s > timeout_s:
                process.kill()
            time.sleep(0.005)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{text[-3000:]}")
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, text)


def in_child(
    function: str, *arguments: Any, environment: Mapping[str, str] | None = None
) -> tuple[Any, Cost]:
    """Call ``module:function`` with JSON arguments in a fresh process; its JSON result and its cost."""
    module, _, name = function.partition(":")
    code = (
        f"import json, sys; from {module} import {name} as f; "
        "print('RESULT', json.dumps(f(*json.loads(sys.argv[1]))))"
    )
    cost = run([sys.executable, "-c", code, json.dumps(arguments)], environment)
    line = next(line for line in reversed(cost.output.splitlines()) if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT ")), cost


def platform_command(*arguments: str) -> list[str]:
    """The ``my-platform`` command of this environment."""
    return [str(Path(sys.executable).parent / "my-platform"), *arguments]


def median_s(action: Callable[[], Any], times: int) -> float:
    """Median wall-clock seconds of an action."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="my_platform_bench_") as folder:
        yield Path(folder)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table, its numbers to the right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    right = [
        column > 0 and all(row[column][:1] in "0123456789-–≤≥<×" or not row[column] for row in cells[1:])
        for column in range(len(header))
    ]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = "|".join(
        "-" * (width + 1) + (":" if is_right else "-") for width, is_right in zip(widths, right, strict=True)
    )
    return [line(cells[0]), f"|{rule}|", *(line(row) for row in cells[1:])]


def machine(load_before: tuple[float, float, float], names: Sequence[str] = _LIBRARIES) -> str:
    """The machine, how busy it was, and the versions of these libraries."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    before, after = load_before[0], os.getloadavg()[0]
    return (
        f"{len(os.sched_getaffinity(0))} cores ({_processor()}), {memory:.0f} GiB; load average {before:.1f} before "
        f"and {after:.1f} after, this benchmark's own included. Python {platform.python_version()}, {libraries}."
    )


def publish(name: str, title: str, command: str, lines: Sequence[str], *, write: bool) -> None:
    """Print a section, and with ``write`` put it in its place in docs/benchmarks.md."""
    text = "\n".join([f"## {title}", "", f"`{command}`", "", *lines]).rstrip() + "\n"
    print(text)
    if not write:
        return
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
    document = DOCUMENT.read_text() if DOCUMENT.exists() else _TITLE
    before, found, rest = document.partition(begin)
    after = rest.partition(end)[2] if found else ""
    separator = "" if found else "\n"
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(f"{before}{separator}{begin}{text}{end}{after}")
    print(f"written to {DOCUMENT.relative_to(CHECKOUT)}")


def publish_parts(
    name: str,
    parts: Mapping[str, tuple[str, Callable[[Path, argparse.Namespace], list[str]]]],
    command: str,
    options: argparse.Namespace,
) -> None:
    """Measure and publish parts of a benchmark, each a section, by its title and what gives its lines.

    Args:
        options: among them `only`, the parts with commas in between, and `write`.
    """
    for part in options.only.split(","):
        title, measure = parts[part]
        load = os.getloadavg()
        with temporary_folder() as folder:
            lines = measure(folder, options)
        publish(f"{name}_{part}", title, command, [*lines, "", machine(load)], write=options.write)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
