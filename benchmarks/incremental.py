"""What it costs to know what is owed and to do just that: planning, backfills, corrected days, growth.

`make bench BENCHMARKS=incremental ARGS=--write`; `--only plan,growth` for some of the parts.
"""

import argparse
import shutil
import statistics
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

from benchmarks._homes import FIRST, land, refresh
from benchmarks._report import (
    Cost,
    in_child,
    platform_command,
    publish_parts,
    run,
    table,
)

WITHOUT_MARTS = "group:raw or group:references or group:validated or group:features"
DAILY = f"{WITHOUT_MARTS} or group:quality or group:marts"
COMMAND = "make bench BENCHMARKS=incremental ARGS=--write"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {', '.join(PARTS)}")
    parser.add_argument(
        "--days", type=int, default=136, help="days of the build that a corrected day is held against"
    )
    parser.add_argument(
        "--times",
        type=int,
        nargs="*",
        default=[1, 4, 10],
        help="how many times as many days the longer histories have",
    )
    parser.add_argument("--sample", type=int, default=20, help="days whose stale status Dagster is asked for")
    parser.add_argument("--runs", type=int, default=4, help="runs of the sampled backfill by plain Dagster")
    parser.add_argument("--write", action="store_true", help="replace the sections in docs/benchmarks.md")
    options = parser.parse_args()
    publish_parts("incremental", PARTS, COMMAND, options)


def _plan(folder: Path, options: argparse.Namespace) -> list[str]:
    rows = []
    for days, repeats in ((1_000, 5), (10_000, 5), (100_000, 1)):
        found, cost = in_child("benchmarks._planning:plan_many", days, repeats)
        seconds = found["seconds"]
        rows.append(
            [
                f"{days:,} × 8",
                *(f"{seconds[name]:.2f}" for name in ("all owed", "nothing owed", "one landed day changed")),
                f"{found['entries']:,}",
                f"{cost.peak_bytes / 1e6:.0f}",
            ]
        )
        if days == 10_000:
            pure_s = seconds["nothing owed"]
    days = 10_000
    asked, _ = in_child("benchmarks._planning:from_dagster", str(folder / "home"), days, options.sample, 3)
    seconds = asked["seconds"]
    own_s = seconds["heads"] + seconds["traces"] + pure_s
    each_s = seconds["stale status of the sample"] / asked["asked"]
    theirs_s = each_s * days * 8
    return [
        "Eight daily assets, two of them with windows of 30 days, one of 7 and two of 365; seconds in the planner alone, "
        "and the peak memory of its process:",
        "",
        *table(
            ["partitions", "all owed", "nothing owed", "one day changed", "entries then", "MB"],
            rows,
        ),
        "",
        f"With a real instance of {days * 8:,} materializations (one reported for each asset, the others copied in its "
        f"database): reading all heads takes {seconds['heads']:.2f} s and all traces {seconds['traces']:.2f} s, so that "
        f"knowing what is owed takes {own_s:.2f} s in all. Dagster's own stale status (`CachingStaleStatusResolver`), "
        f"asked for {asked['asked']} partitions, {options.sample} days in a row of each asset, took "
        f"{each_s * 1e3:.1f} ms each, which would be {theirs_s:,.0f} s for all of them (extrapolated): "
        f"**{theirs_s / own_s:,.0f} ×** as long, or {theirs_s / pure_s:,.0f} × the planner alone. It leaves out edges to "
        "100 partitions or more, the planner none.",
    ]


def _backfill(folder: Path, options: argparse.Namespace) -> list[str]:
    from benchmarks._backfill import backfill

    home, days = folder / "home", 60
    source = land(home, FIRST + timedelta(days=days - 1))
    built = refresh(home, WITHOUT_MARTS)
    landing = home / "landing"
    in_child("benchmarks._bare:build", str(landing), str(folder / "bare"), False, 1, 2)
    sampled = [str(FIRST + timedelta(days=40 + number)) for number in range(options.runs)]
    rows = [["my-platform refresh, one run", f"{built.cost.wall_s:.1f}", f"{built.cost.cpu_s:.1f}", "", ""]]
    for executor, name in (("default", "a process for each step"), ("in_process", "in-process executor")):
        tables = folder / f"tables_{executor}"
        shutil.copytree(folder / "bare", tables)
        found = backfill(folder / executor, landing, tables, sampled, executor)
        wall_s, cpu_s = (seconds / len(sampled) * days for seconds in (found.wall_s, found.cpu_s))
        rows.append(
            [
                f"plain Dagster, {name}",
                f"{wall_s:,.0f}",
                f"{cpu_s:,.0f}",
                f"{wall_s / built.cost.wall_s:.0f}",
                f"{cpu_s / built.cost.cpu_s:.0f}",
            ]
        )
    return [
        f"A backfill of {days} days of {source}, raw tables to features ({built.partitions} partitions), from the shell. Plain "
        "Dagster runs the functions of seven of the daily assets on plain Parquet files, one run a day through the default run "
        f"launcher; its seconds are {len(sampled)} such runs, submitted at once, times {days} ÷ {len(sampled)} "
        "(extrapolated), without the daemon's ticks and queue:",
        "",
        *table(["", "wall clock s", "processor s", "× wall", "× processor"], rows),
    ]


def _corrected(folder: Path, options: argparse.Namespace) -> list[str]:
    home = folder / "home"
    source = land(home, FIRST + timedelta(days=options.days - 1))
    again = folder / "again"
    full = {"without marts": refresh(home, WITHOUT_MARTS)}
    shutil.copytree(home / "landing", again / "landing")
    full["with marts and checks"] = refresh(again, DAILY)
    last = options.days - 1
    days = [FIRST + timedelta(days=number) for number in (last // 4, last // 2, last * 3 // 4, last)]
    corrected = []
    for what, selection, where in (
        ("without marts", WITHOUT_MARTS, home),
        ("with marts and checks", DAILY, again),
    ):
        for day in days:
            _correct(where, day)
            corrected.append((what, day, refresh(where, selection)))
    # Idle means the whole home: the weekly assets are there too, though fitted with two trees.
    run(platform_command("refresh"), {**_environment(again), "MY_PLATFORM_BOOSTING_ROUNDS": "2"})
    idle, imports = _idle(again)
    rows = []
    for what, day, done in corrected:
        base = full[what].cost
        rows.append(
            [
                f"{day}, {what}",
                f"{done.partitions:,}",
                f"{done.cost.wall_s:.1f}",
                f"{done.cost.wall_s / base.wall_s:.1%}",
                f"{done.cost.cpu_s / base.cpu_s:.1%}",
                f"{max(0.0, done.cost.cpu_s - idle.cpu_s) / base.cpu_s:.1%}",
            ]
        )
    builds = [
        f"{built.partitions:,} partitions in {built.cost.wall_s:.1f} s "
        f"({built.cost.cpu_s:.1f} s of processor time) {what}"
        for what, built in full.items()
    ]
    return [
        f"{options.days} days of {source}, models left out. The full build: {'; '.join(builds)}. Then one amount of one day "
        "is corrected, and `my-platform refresh` from the shell computes what that changes:",
        "",
        *table(
            [
                "corrected day",
                "partitions",
                "s",
                "of the build's time",
                "of its processor time",
                "of that, beyond an idle refresh",
            ],
            rows,
        ),
        "",
        f"An idle refresh from the shell takes {idle.wall_s:.2f} s ({idle.cpu_s:.2f} s of processor time), "
        f'**{idle.wall_s / imports.wall_s:.1f} ×** `python -c "import dagster, polars"` with {imports.wall_s:.2f} s '
        f"({idle.cpu_s / imports.cpu_s:.1f} × its processor time); medians of 5, in turns.",
    ]


def _longer(folder: Path, options: argparse.Namespace) -> list[str]:
    """What a corrected day in the middle costs beside the build, as the history grows."""
    rows = []
    for days in (options.days * times for times in options.times):
        home = folder / f"history_{days}"
        source = land(home, FIRST + timedelta(days=days - 1))
        built = refresh(home, WITHOUT_MARTS)
        idle = refresh(home, WITHOUT_MARTS).cost
        _correct(home, FIRST + timedelta(days=days // 2))
        done = refresh(home, WITHOUT_MARTS)
        shutil.rmtree(home)
        rows.append(
            [
                f"{days:,}, {source}",
                f"{built.partitions:,}",
                f"{built.cost.wall_s:.1f}",
                f"{done.partitions:,}",
                f"{done.partitions / built.partitions:.1%}",
                f"{done.cost.wall_s:.1f}",
                f"**{done.cost.wall_s / built.cost.wall_s:.1%}**",
                f"{done.cost.cpu_s / built.cost.cpu_s:.1%}",
                f"{max(0.0, done.cost.cpu_s - idle.cpu_s) / built.cost.cpu_s:.1%}",
            ]
        )
    return [
        "Raw tables to features, models and marts left out; one amount of one day in the middle of the history is "
        "corrected. What that owes does not grow with the history:",
        "",
        *table(
            [
                "days",
                "partitions built",
                "s",
                "owed by the correction",
                "of all",
                "s",
                "of the build's time",
                "of its processor time",
                "of that, beyond an idle refresh",
            ],
            rows,
        ),
    ]


def _growth(folder: Path, options: argparse.Namespace) -> list[str]:
    rows = []
    for days in (30, 120, 480):
        home = folder / str(days)
        arguments = ["--days", str(days), "--start", str(FIRST), "--customers", "200", "--terminals", "400"]
        run(platform_command("simulate", *arguments), _environment(home))
        built = refresh(home, WITHOUT_MARTS)
        idle = statistics.median(refresh(home, WITHOUT_MARTS).cost.cpu_s for _ in range(3))
        corrected = []
        for number in range(3):
            _correct(home, FIRST + timedelta(days=days - 20 + number))
            corrected.append(refresh(home, WITHOUT_MARTS))
        one = statistics.median(done.cost.cpu_s for done in corrected)
        rows.append(
            [
                str(days),
                f"{built.partitions:,}",
                f"{built.cost.wall_s:.1f}",
                f"{built.cost.cpu_s:.1f}",
                f"{(built.cost.cpu_s - idle) / built.partitions * 1e3:.1f}",
                f"{idle:.2f}",
                f"{one:.2f}",
                f"{statistics.median(done.cost.wall_s for done in corrected):.1f}",
                str(corrected[-1].partitions),
            ]
        )
    return [
        "Tiny days (200 customers), raw tables to features: what a partition costs beyond its own work. Processor "
        "seconds, since they depend less on what else the machine does; idle and corrected are medians of 3:",
        "",
        *table(
            [
                "days",
                "partitions",
                "build, wall s",
                "build, s",
                "ms a partition beyond idle",
                "idle refresh, s",
                "one corrected day, s",
                "wall s",
                "its partitions",
            ],
            rows,
        ),
    ]


PARTS: dict[str, tuple[str, Callable[[Path, argparse.Namespace], list[str]]]] = {
    "plan": ("Knowing what is owed", _plan),
    "backfill": ("A full backfill against one run a partition", _backfill),
    "corrected": ("One corrected day against the full build", _corrected),
    "longer": ("One corrected day against the build of a longer history", _longer),
    "growth": ("Cost against the number of partitions", _growth),
}


def _environment(home: Path) -> dict[str, str]:
    return {"MY_PLATFORM_HOME": str(home)}


def _correct(home: Path, day: date) -> None:
    """Land a day again with another amount."""
    from my_platform.domains.fraud.simulator import land_correction

    land_correction(home / "landing", day, seed=day.toordinal())


def _idle(home: Path) -> tuple[Cost, Cost]:
    """Median costs of an idle refresh and of importing Dagster and polars, measured in turns."""
    idle, imports = [], []
    for _ in range(5):
        idle.append(
            run(platform_command("refresh"), {**_environment(home), "MY_PLATFORM_BOOSTING_ROUNDS": "2"})
        )
        imports.append(run([sys.executable, "-c", "import dagster, polars"]))
    return _median(idle), _median(imports)


def _median(costs: list[Cost]) -> Cost:
    return Cost(
        statistics.median(cost.wall_s for cost in costs),
        statistics.median(cost.cpu_s for cost in costs),
        max(cost.peak_bytes for cost in costs),
        "",
    )


if __name__ == "__main__":
    main()
