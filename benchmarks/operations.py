"""What it costs to notice what has landed, and to backfill through the daemon.

`make bench BENCHMARKS=operations ARGS=--write`; `--only landing,daemon` for one of the parts.
"""

import argparse
import json
import os
import statistics
import time
from datetime import timedelta
from pathlib import Path

from assets_tests.homes import objects
from assets_tests.operations.served import served, until
from benchmarks import _orders
from benchmarks._backfill import backfill
from benchmarks._homes import FIRST
from benchmarks._report import in_child, machine, platform_command, publish, run, table, temporary_folder

PARTS = ("landing", "daemon")
_DOMAIN = {"MY_PLATFORM_DOMAINS": "benchmarks._orders"}
_RUNS = "{ runsOrError { ... on Runs { results { runId } } } }"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {', '.join(PARTS)}")
    parser.add_argument("--files", type=int, default=10_000, help="landed files that a tick looks at")
    parser.add_argument("--days", type=int, default=1_000, help="partitions that the daemon backfills")
    parser.add_argument("--runs", type=int, default=12, help="runs of the sampled backfill by plain Dagster")
    parser.add_argument("--write", action="store_true", help="replace the sections in docs/benchmarks.md")
    options = parser.parse_args()
    for part in options.only.split(","):
        load = os.getloadavg()
        with temporary_folder() as folder:
            title, lines = {"landing": _landing, "daemon": _daemon}[part](folder, options)
        command = "make bench BENCHMARKS=operations ARGS=--write"
        publish(f"operations_{part}", title, command, [*lines, "", machine(load)], write=options.write)


def _landing(folder: Path, options: argparse.Namespace) -> tuple[str, list[str]]:
    home = folder / "home"
    _orders.land(home / "landing", 0, options.files - 3)
    run(
        platform_command("refresh", "--json", "--select", 'key:"raw/orders"'),
        {"MY_PLATFORM_HOME": str(home), **_DOMAIN},
    )
    found, cost = in_child("benchmarks.operations:ticks", str(home), options.files - 3)
    rows = [[name, f"{seconds:.2f}", str(requests)] for name, seconds, requests in found]
    return "Noticing what has landed", [
        f"A home with {options.files:,} landed files of {_orders.ROWS} rows, as its sensor `keep_up_to_date` looks at "
        f"it in a process that lasts; the process took {cost.peak_bytes / 1e6:.0f} MB at most:",
        "",
        *table(["tick", "s", "runs requested"], rows),
    ]


def ticks(home: str, landed: int) -> list[tuple[str, float, int]]:
    """Ticks of the sensor over a home before and after three more files land: name, seconds, runs requested."""
    import dagster as dg

    from my_platform.operations.sensors import SENSOR
    from my_platform.operations.session import opened
    from my_platform.settings import Settings

    settings = Settings(home=Path(home), domains=("benchmarks._orders",))
    found = []
    with opened(settings) as session:
        repository = session.definitions.get_repository_def()
        sensor = repository.get_sensor_def(SENSOR)

        def tick(name: str) -> None:
            with dg.build_sensor_context(instance=session.instance, repository_def=repository) as context:
                started = time.perf_counter()
                asked = sensor.evaluate_tick(context)
                found.append((name, time.perf_counter() - started, len(asked.run_requests or ())))

        tick("the first of the process")
        done = session.refresh()
        assert not done.problems, done.problems
        for _ in range(3):
            tick("nothing new")
        _orders.land(Path(home) / "landing", landed, 3)
        tick("three new files")
    idle = statistics.median(seconds for name, seconds, _ in found if name == "nothing new")
    return [found[0], ("nothing new, median of 3", idle, 0), found[-1]]


def _daemon(folder: Path, options: argparse.Namespace) -> tuple[str, list[str]]:
    home = folder / "home"
    home.mkdir()
    environment = {"MY_PLATFORM_HOME": str(home), **_DOMAIN}
    # Landed once the sensor that computes what is owed by itself has been stopped.
    with served(home, domains="benchmarks._orders") as ui:
        ui.stop_sensor()
        _orders.land(home / "landing", 0, options.days)
        last = str(_orders.FIRST + timedelta(days=options.days - 1))
        until(lambda: last in json.dumps(ui.ask("{ assetNodes { partitionKeys } }")))
        started = time.perf_counter()
        status = ui.backfill()
        wall_s = time.perf_counter() - started
        runs = len(ui.ask(_RUNS)["runsOrError"]["results"])
    if status != "COMPLETED_SUCCESS":
        raise RuntimeError(f"the backfill ended as {status}")
    again = folder / "again"
    _orders.land(again / "landing", 0, options.days)
    shell = run(platform_command("backfill", "*", "--json"), {**environment, "MY_PLATFORM_HOME": str(again)})
    for name, there in (("the daemon", objects(home)), ("the shell", objects(again))):
        if len(there) != 3 * options.days:
            raise RuntimeError(f"{name} computed {len(there)} of {3 * options.days} partitions")
    landing = folder / "handbook"
    run(
        platform_command("simulate", "--days", "60", "--start", "2018-04-01"),
        {"MY_PLATFORM_HOME": str(landing)},
    )
    in_child("benchmarks._bare:build", str(landing / "landing"), str(folder / "bare"), False, 1, 2)
    sampled = [str(FIRST + timedelta(days=40 + number)) for number in range(options.runs)]
    plain = backfill(folder / "plain", landing / "landing", folder / "bare", sampled, "in_process")
    each_s, plain_s = wall_s / options.days, plain.wall_s / options.runs
    rows = [
        ["the UI's backfill, by the daemon", f"{wall_s:.0f}", f"{each_s * 1e3:.0f}", str(runs)],
        [
            "the command, from the shell",
            f"{shell.wall_s:.0f}",
            f"{shell.wall_s / options.days * 1e3:.0f}",
            "",
        ],
        [
            "plain Dagster, one run a partition",
            f"{plain_s * options.days:,.0f}",
            f"{plain_s * 1e3:,.0f}",
            f"{options.days:,}",
        ],
    ]
    return "A backfill through the daemon", [
        f"{options.days:,} days of a small table, each raw, validated and summed over a week ({3 * options.days:,} "
        "partitions). What plain Dagster takes is seen at "
        f"{options.runs} runs of seven assets, in process, submitted at once without a daemon, and extrapolated:",
        "",
        *table(["", "s", "ms a day", "runs"], rows),
        "",
        f"One run a partition takes **{plain_s / each_s:.0f} ×** as long a day, for seven assets instead of three.",
    ]


if __name__ == "__main__":
    main()
