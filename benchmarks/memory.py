"""Days that do not fit: the build within a memory limit, its peak, and what the limit costs.

`make bench BENCHMARKS=memory ARGS=--write`. Transactions of a small simulated population are copied with identifiers of
their own (`benchmarks/_replicated.py`). Each build is a process of its own, on landed files, without models. Memory is
that of the processes of a build together, resident, looked at twenty times a second; a build whose limit is too small for
it fails, and so does this benchmark where a build takes more than its limit.
"""

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from benchmarks._replicated import land_replicated
from benchmarks._report import CHECKOUT, machine, platform_command, publish, table, temporary_folder

COMMAND = "make bench BENCHMARKS=memory ARGS='{}'"
DAYS = 30
BUILT = "group:raw or group:references or group:validated or group:features or group:marts"
_ROWS_OF_A_COPY = 1_000_000
_LOOK_S = 0.05


@dataclass(frozen=True)
class Built:
    """A build: seconds, the most memory that its processes had together, and data versions by asset and partition."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    versions: dict[tuple[str, str], str]
    seconds: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="transactions of 30 days")
    parser.add_argument("--limit", default="1.5GB", help="the memory limit")
    parser.add_argument(
        "--alone", action="store_true", help="leave out the build without a limit, which would not fit"
    )
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    options = parser.parse_args()
    load = os.getloadavg()
    with temporary_folder() as folder:
        lines = measured(folder, options.rows, options.limit, alone=options.alone)
    arguments = f"--rows {options.rows} --limit {options.limit}{' --alone' if options.alone else ''} --write"
    publish(
        "memory_alone" if options.alone else "memory",
        f"{options.rows / 1e6:g} M transactions within {options.limit}",
        COMMAND.format(arguments),
        [*lines, "", machine(load)],
        write=options.write,
    )


def measured(folder: Path, rows: int, limit: str, *, alone: bool) -> list[str]:
    landed = land_replicated(
        folder / "landing",
        rows=rows,
        days=DAYS,
        copies=max(1, rows // _ROWS_OF_A_COPY),
        work=folder / "simulated",
    )
    shutil.rmtree(folder / "simulated")
    subprocess.run(platform_command("prepare"), cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
    builds = {f"limit {limit}": build(folder, limit)}
    if not alone:
        builds["no limit"] = build(folder, "off")
    within, *others = builds.values()
    if within.peak_bytes > (allowed := bytes_of(limit)):
        raise RuntimeError(f"{within.peak_bytes:,} bytes were taken where {allowed:,} were allowed")
    for other in others:
        different = [key for key in other.versions if within.versions.get(key) != other.versions[key]]
        if different or within.versions.keys() != other.versions.keys():
            raise RuntimeError(f"data versions differ: {different[:5]}")
    shown = [
        [
            name,
            f"{each.wall_s:.0f}",
            f"{each.cpu_s:.0f}",
            f"{landed / each.wall_s:,.0f}",
            f"{each.peak_bytes / 1e9:.2f}",
        ]
        for name, each in builds.items()
    ]
    stages = {asset: round(s) for asset, s in within.seconds.items() if s >= 1}
    lines = [
        f"{landed:,} transactions in {DAYS} days, {len(within.versions):,} partitions.",
        "",
        *table(["build", "seconds", "processor seconds", "transactions/s", "peak memory, GB"], shown),
        "",
        "Seconds of functions within the limit: " + ", ".join(f"{a} {s}" for a, s in stages.items()) + ".",
    ]
    if others:
        ratio, cpu = others[0].wall_s / within.wall_s, others[0].cpu_s / within.cpu_s
        lines += [
            "",
            f"Within the limit {ratio:.2f} × the rows a second of the build without one, {cpu:.2f} × by processor time; "
            "the data versions of all partitions are the same.",
        ]
    return lines


def build(folder: Path, limit: str) -> Built:
    """Build a fresh home from what has landed."""
    home = folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    environment = {
        **os.environ,
        "MY_PLATFORM_HOME": str(home),
        "MY_PLATFORM_LANDING_URL": str(folder / "landing"),
        "MY_PLATFORM_MEMORY_LIMIT": limit,
    }
    started, before = time.perf_counter(), os.times()
    with open(folder / "output", "w+") as output:
        process = subprocess.Popen(
            platform_command("refresh", "--select", BUILT, "--json"),
            cwd=CHECKOUT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        peak = _peak_of(process)
        output.seek(0)
        text = output.read()
    wall_s, after = time.perf_counter() - started, os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    if process.returncode:
        raise RuntimeError(f"the build ended with {process.returncode}:\n{text[-3000:]}")
    if failed := json.loads(text[text.index("{\n") :])["failed"]:
        raise RuntimeError(f"the build failed: {failed}")
    with sqlite3.connect(home / "lake" / "index.sqlite") as index:
        traces = index.execute("select asset, partition, data_version, seconds from traces").fetchall()
    seconds: dict[str, float] = {}
    for asset, _, _, taken in traces:
        seconds[asset] = seconds.get(asset, 0.0) + taken
    return Built(wall_s, cpu_s, peak, {(a, p): v for a, p, v, _ in traces}, seconds)


def _peak_of(process: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> int:
    """The most memory that a process and those below it had together, until it has ended."""
    most = 0
    ended = Event()

    def look() -> None:
        nonlocal most
        while not ended.wait(_LOOK_S):
            most = max(most, _resident_bytes(process.pid))

    looking = Thread(target=look, daemon=True)
    looking.start()
    process.wait()
    ended.set()
    looking.join()
    return most


def _resident_bytes(pid: int) -> int:
    """Resident memory of a process and those below it; 0 for one that has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(_resident_bytes(child) for child in children)


def bytes_of(limit: str) -> int:
    from my_platform.settings import Settings

    found = Settings(memory_limit=limit).memory_limit_bytes
    assert found is not None
    return found


if __name__ == "__main__":
    main()
