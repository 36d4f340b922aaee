"""What gives first: homes of up to a million partitions, and many processes that write events at once.

`make bench BENCHMARKS=limits ARGS=--write`; `--only homes,writers` for one of the parts.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks._report import CHECKOUT, in_child, publish_parts, table
from my_platform.operations.home import prepare_home
from my_platform.settings import Settings

COMMAND = "make bench BENCHMARKS=limits ARGS=--write"
EVENTS = 100
MEGA = 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {', '.join(PARTS)}")
    parser.add_argument(
        "--homes",
        nargs="*",
        default=["1000x8", "10000x8", "100000x8", "1250x800", "10417x96"],
        help="days × assets of each home; assets by eights",
    )
    parser.add_argument("--write", action="store_true", help="replace the sections in docs/benchmarks.md")
    options = parser.parse_args()
    publish_parts("limits", PARTS, COMMAND, options)


def _homes(folder: Path, options: argparse.Namespace) -> list[str]:
    rows = []
    for size in options.homes:
        days, assets = map(int, size.split("x"))
        home = folder / size
        in_child("benchmarks._planning:simulate_home", str(home), days, assets // 8)
        found, cost = in_child("benchmarks._planning:know_what_is_owed", str(home), days, assets // 8, 1)
        seconds = found["seconds"]
        rows.append(
            [
                f"{days:,} × {assets}",
                f"{found['partitions']:,}",
                *(
                    f"{seconds[name]:.2f}"
                    for name in ("heads", "traces", "nothing owed", "one landed day changed")
                ),
                f"{found['entries']:,}",
                f"{cost.peak_bytes / MEGA:,.0f}",
                f"{found['log_bytes'] / MEGA:,.0f}",
                f"{found['index_bytes'] / MEGA:,.0f}",
                f"{seconds['report'] * 1e3:.1f}",
            ]
        )
    return [
        "Homes in which everything is computed, simulated: one event of each asset is reported to Dagster, the others are "
        "copies of its rows in the event log, and traces are rows of the index; nothing is stored. Eight daily assets with "
        "windows of up to 365 days, or copies of these eight over the same landed days. Seconds to read all heads from the "
        "event log and all traces from the index, and of the planner alone where nothing is owed and after one landed day "
        "has changed; the memory is the peak of the process that does all of this:",
        "",
        *table(
            [
                "days × assets",
                "partitions",
                "heads, s",
                "traces, s",
                "planner, s",
                "one day changed, s",
                "entries then",
                "memory, MB",
                "event log, MB",
                "index, MB",
                "one more event, ms",
            ],
            rows,
        ),
    ]


def _writers(folder: Path, options: argparse.Namespace) -> list[str]:
    rows = []
    for count in (1, 4, 16):
        found = []
        for storage in (_sqlite, _postgres):
            with storage(folder / f"{storage.__name__}{count}") as environment:
                found.append(_reported(count, environment))
        rows.append([f"{count}", *(f"{count * EVENTS / wall_s:,.0f}" for wall_s in found)])
    return [
        f"Processes that report {EVENTS} materializations each to one Dagster instance at the same time, as runs of several "
        "users do. Events a second of all of them, from the moment at which all have loaded; PostgreSQL on the same "
        "machine, `fsync` off:",
        "",
        *table(["processes", "SQLite, events a second", "PostgreSQL, events a second"], rows),
    ]


PARTS: dict[str, tuple[str, Callable[[Path, argparse.Namespace], list[str]]]] = {
    "homes": ("Homes of up to a million partitions", _homes),
    "writers": ("Many who write events at once", _writers),
}


@contextmanager
def _sqlite(folder: Path) -> Iterator[Mapping[str, str]]:
    """The environment of a home whose instance lies in files, as the platform keeps them."""
    settings = Settings(home=folder)
    prepare_home(settings)
    yield {"MY_PLATFORM_HOME": str(folder), "DAGSTER_HOME": str(settings.dagster_home)}


@contextmanager
def _postgres(folder: Path) -> Iterator[Mapping[str, str]]:
    """The environment of a Dagster instance in a PostgreSQL server of its own."""
    from assets_tests.postgres_server import postgres

    folder.mkdir()
    with postgres() as server:
        url = f"postgresql://{server['PGUSER']}@{server['PGHOST']}:{server['PGPORT']}/{server['PGDATABASE']}"
        (folder / "dagster.yaml").write_text(f"storage:\n  postgres:\n    postgres_url: {url}\n")
        yield {"DAGSTER_HOME": str(folder), **server}


def _reported(count: int, environment: Mapping[str, str]) -> float:
    """Wall-clock seconds in which processes report their events, from when all are ready."""
    # Several at once that make the tables get into each other's way.
    in_child(f"{__spec__.name}:make_tables", environment=environment)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", f"from {__spec__.name} import report; report({number})"],
            cwd=CHECKOUT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("a writer did not come up; see above")
    started = time.perf_counter()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    # Not until their end, which takes longer than the events.
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    taken_s = time.perf_counter() - started
    for process in processes:
        process.communicate()
    if any(process.returncode for process in processes):
        raise RuntimeError("a writer failed; see above")
    return taken_s


def make_tables() -> None:
    """Open the instance for the first time."""
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("first"))


def report(number: int) -> None:
    """Report events of an asset of this process, connected as the platform is, when told to."""
    import dagster as dg

    from my_platform.operations.event_log import stay_connected

    def reported(instance: dg.DagsterInstance, key: int) -> None:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                f"asset_{number}", partition=str(key), tags={"dagster/data_version": str(key)}
            )
        )

    with dg.DagsterInstance.get() as instance:
        stay_connected(instance)
        reported(instance, -1)
        print("ready", flush=True)
        sys.stdin.readline()
        for key in range(EVENTS):
            reported(instance, key)
        print("done", flush=True)


if __name__ == "__main__":
    main()
