"""What it costs to trust the data: validation and checks against the build, pandera and a bare filter.

`make bench BENCHMARKS=validation ARGS=--write`. The data are the real handbook days in MY_PLATFORM_HANDBOOK, or
else simulated ones of the same size.
"""

import argparse
import json
import os
import sqlite3
from pathlib import Path

from benchmarks._report import (
    Cost,
    in_child,
    machine,
    platform_command,
    publish,
    run,
    table,
    temporary_folder,
)
from benchmarks.end_to_end import DAYS, THREADS, land
from my_platform.domains.fraud.parameters import BOOSTING_ROUNDS

COMMAND = "make bench BENCHMARKS=validation ARGS=--write"
_WEEK = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {', '.join(PARTS)}")
    parser.add_argument("--days", type=int, default=DAYS, help="days from 2018-04-01 on")
    parser.add_argument("--rounds", type=int, default=BOOSTING_ROUNDS, help="trees of each model")
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    options = parser.parse_args()
    with temporary_folder() as folder:
        source = land(folder / "home", options.days)
        for name in options.only.split(","):
            title, measure = PARTS[name]
            load = os.getloadavg()
            lines = [f"{options.days} days of {source}.", "", *measure(folder / "home", options)]
            publish(f"validation_{name}", title, COMMAND, [*lines, "", machine(load)], write=options.write)


def _of_a_build(home: Path, options: argparse.Namespace) -> list[str]:
    environment = {
        "MY_PLATFORM_HOME": str(home),
        "MY_PLATFORM_BOOSTING_ROUNDS": str(options.rounds),
        "MY_PLATFORM_THREADS": str(THREADS),
    }
    run(platform_command("prepare"), environment)
    cost = run(platform_command("refresh", "--json"), environment)
    done = json.loads(cost.output[cost.output.index("{\n") :])
    if done["failed"]:
        raise RuntimeError(f"the build failed: {done['failed']}")
    with sqlite3.connect(home / "lake" / "index.sqlite") as index:
        query = "select asset, sum(seconds), count(*) from traces group by asset"
        found = {asset: (seconds, partitions) for asset, seconds, partitions in index.execute(query)}
    functions_s = sum(seconds for seconds, _ in found.values())
    partitions = sum(number for _, number in found.values())
    around_s = (cost.wall_s - functions_s) / partitions
    rows = []
    for name, folders in (
        ("contracts and quarantine", ("validated",)),
        ("profiles and checks", ("profiles", "checks")),
    ):
        own_s, number = _sum(found, folders)
        whole_s = own_s + number * around_s
        rows.append(
            [name, number, f"{own_s:.1f}", f"{own_s / cost.wall_s:.1%}", f"{whole_s / cost.wall_s:.1%}"]
        )
    return [
        f"The whole build, models included, takes {cost.wall_s:.0f} s for {partitions:,} partitions. Seconds are those "
        "of the functions; the last column adds an even share of all that the platform does around each partition:",
        "",
        *table(["part", "partitions", "seconds", "of the build", "with all around it"], rows),
    ]


def _sum(found: dict[str, tuple[float, int]], folders: tuple[str, ...]) -> tuple[float, int]:
    chosen = [
        each for asset, each in found.items() if asset.startswith(tuple(f"{name}/" for name in folders))
    ]
    return sum(seconds for seconds, _ in chosen), sum(number for _, number in chosen)


def _by_rows(home: Path, options: argparse.Namespace) -> list[str]:
    landing, days = home / "landing", options.days
    own, all_days = in_child("benchmarks._validation:day_by_day", str(landing), days)
    _, one_week = in_child("benchmarks._validation:day_by_day", str(landing), _WEEK)
    rows = [[name, f"{s:.2f}", f"{own['rows'] / s / 1e6:.2f}"] for name, s in own["seconds"].items()]
    return [
        f"The transactions alone, {own['rows']:,} rows, day by day in one process. Pandera's `validate` and the filter "
        "tell neither row nor reason, and know nothing of days:",
        "",
        *table(["", "seconds", "million rows a second"], rows),
        "",
        f"Of these days, {len(own['failed'])} results of checks fail. "
        f"Memory is bounded by a day and the small profiles before it: {_mb(one_week)} MB at its peak for {_WEEK} days, "
        f"{_mb(all_days)} MB for {days}.",
    ]


def _mb(cost: Cost) -> str:
    return f"{cost.peak_bytes / 1e6:.0f}"


PARTS = {
    "build": ("Validation and checks within a build", _of_a_build),
    "rows": ("Validation and checks by themselves", _by_rows),
}

if __name__ == "__main__":
    main()
