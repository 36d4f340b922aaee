"""The whole build by the platform against a bare script that does the same work in one process.

`make bench BENCHMARKS=end_to_end ARGS=--write`, with `--without-models` for the daily assets alone. The data
are the real handbook days in MY_PLATFORM_HANDBOOK, or else simulated ones of the same size.
"""

import argparse
import json
import os
import shutil
import sqlite3
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from benchmarks._report import (
    HANDBOOK,
    Cost,
    in_child,
    machine,
    platform_command,
    publish,
    run,
    table,
    temporary_folder,
)
from my_platform.domains.fraud.parameters import BOOSTING_ROUNDS

FIRST = date(2018, 4, 1)
DAYS = 136
DAILY = "group:raw or group:references or group:validated or group:features or group:marts"
STAGES = {
    "raw": ("raw",),
    "validated": ("validated",),
    "features": ("features",),
    "marts": ("marts",),
    "quality": ("quality",),
    "training": ("training",),
    "models": ("models",),
    "evaluation": ("evaluation",),
}
THREADS = 2


@dataclass(frozen=True)
class Built:
    """A build by the platform: its cost, seconds in functions by asset group, and seconds by part."""

    cost: Cost
    groups: dict[str, float]
    parts: dict[str, float]
    partitions: int
    figures: dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=DAYS, help="days from 2018-04-01 on")
    parser.add_argument("--rounds", type=int, default=BOOSTING_ROUNDS, help="trees of each model")
    parser.add_argument(
        "--repeats", type=int, default=1, help="builds by the platform, each between two bare ones"
    )
    parser.add_argument("--without-models", action="store_true", help="only the daily assets")
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    options = parser.parse_args()
    load = os.getloadavg()
    lines: list[str] = []
    with temporary_folder() as folder:
        source = land(folder / "home", options.days)
        for models in (False,) if options.without_models else (True, False):
            lines += _compare(folder, options.rounds, models, options.repeats)
    about = (
        f"{options.days} days of {source}, {options.rounds} trees a model. The bare script (`benchmarks/_bare.py`) "
        "calls the same functions in one process, for the whole range at once where that is possible, and writes "
        "plain Parquet files: no Dagster, content hashes, traces, MLflow or dbt, and nothing incremental. Both start "
        "from landed files, as fresh processes, imports included; a bare build runs before and after each build by the "
        "platform, and its mean counts. Memory is that of the largest process."
    )
    name = "end_to_end_without_models" if options.without_models else "end_to_end"
    arguments = " ".join(a for a in sys.argv[1:])
    publish(
        name,
        "The whole build against a bare script",
        f"make bench BENCHMARKS=end_to_end ARGS='{arguments}'",
        [about, "", *lines, machine(load)],
        write=options.write,
    )


def land(home: Path, days: int) -> str:
    """Land the days; what they are."""
    through = FIRST + timedelta(days=days - 1)
    if HANDBOOK.is_dir():
        arguments = ["import-handbook", str(HANDBOOK), "--through", str(through)]
        source = "the handbook's data"
    else:
        arguments = ["simulate", "--days", str(days), "--start", str(FIRST)]
        source = "simulated data of the handbook's size"
    run(platform_command(*arguments), {"MY_PLATFORM_HOME": str(home)})
    return source


def _compare(folder: Path, rounds: int, models: bool, repeats: int) -> list[str]:
    landing = folder / "home" / "landing"
    bare, built = [_bare(folder, landing, models, rounds)], []
    for _ in range(repeats):
        built.append(_platform(folder, landing, models, rounds))
        bare.append(_bare(folder, landing, models, rounds))
    _same_results(bare[-1][0]["figures"], built[-1].figures)
    wall, cpu = _mean(c.wall_s for _, c in bare), _mean(c.cpu_s for _, c in bare)
    own_wall, own_cpu = _mean(b.cost.wall_s for b in built), _mean(b.cost.cpu_s for b in built)
    ratios = sorted(
        b.cost.wall_s / ((bare[i][1].wall_s + bare[i + 1][1].wall_s) / 2) for i, b in enumerate(built)
    )
    spread = f" ({ratios[0]:.2f} to {ratios[-1]:.2f})" if len(ratios) > 1 else ""
    what = "With models" if models else "Without models: the daily assets alone"
    stages = [name for name in STAGES if models or name not in ("training", "models", "evaluation")]
    shown = built[-1]
    rows = [
        [
            stage,
            f"{_mean(r['seconds'].get(stage, 0.0) for r, _ in bare):.1f}",
            f"{shown.groups.get(stage, 0.0):.1f}",
        ]
        for stage in stages
    ]
    other = shown.cost.wall_s - sum(shown.groups.get(stage, 0.0) for stage in stages)
    start = wall - sum(_mean(r["seconds"].get(stage, 0.0) for r, _ in bare) for stage in stages)
    rows.append(["start, and all beside the functions", f"{start:.1f}", f"{other:.1f}"])
    rows.append(["whole process, wall clock", f"{wall:.1f}", f"{own_wall:.1f}"])
    rows.append(["whole process, processor time", f"{cpu:.1f}", f"{own_cpu:.1f}"])
    peak = [max(c.peak_bytes for _, c in bare), max(b.cost.peak_bytes for b in built)]
    rows.append(["peak memory, MB", f"{peak[0] / 1e6:.0f}", f"{peak[1] / 1e6:.0f}"])
    total = shown.parts.pop("total")
    parts = sorted(shown.parts.items(), key=lambda item: -item[1])
    return [
        f"### {what}",
        "",
        f"The platform takes **{own_wall / wall:.2f} ×** the bare script's wall-clock time{spread} and "
        f"{own_cpu / cpu:.2f} × its processor time, for {shown.partitions:,} partitions.",
        "",
        *table(["seconds", "bare script", "platform"], rows),
        "",
        f"Where the platform spends its {total:.1f} s beside the functions' own work:",
        "",
        *table(
            ["part", "seconds", "share"],
            [
                [part, f"{seconds:.1f}", f"{seconds / total:.0%}"]
                for part, seconds in parts
                if seconds >= 0.005 * total
            ],
        ),
        "",
    ]


def _bare(folder: Path, landing: Path, models: bool, rounds: int) -> tuple[dict[str, Any], Cost]:
    out = folder / "bare"
    shutil.rmtree(out, ignore_errors=True)
    return in_child("benchmarks._bare:build", str(landing), str(out), models, rounds, THREADS)


def _platform(folder: Path, landing: Path, models: bool, rounds: int) -> Built:
    home, report = folder / "fresh", folder / "parts.json"
    shutil.rmtree(home, ignore_errors=True)
    environment = {
        "MY_PLATFORM_HOME": str(home),
        "MY_PLATFORM_LANDING_URL": str(landing),
        "MY_PLATFORM_BOOSTING_ROUNDS": str(rounds),
        "MY_PLATFORM_THREADS": str(THREADS),
    }
    run(platform_command("prepare"), environment)
    arguments = ["refresh", "--json", *(() if models else ("--select", DAILY))]
    cost = run([sys.executable, "-m", "benchmarks._instrumented", str(report), *arguments], environment)
    done = json.loads(cost.output[cost.output.index("\n{\n") if not cost.output.startswith("{") else 0 :])
    if done["failed"]:
        raise RuntimeError(f"the build failed: {done['failed']}")
    parts = json.loads(report.read_text())
    with sqlite3.connect(home / "lake" / "index.sqlite") as index:
        seconds = dict(index.execute("select asset, sum(seconds) from traces group by asset").fetchall())
        rows = dict(index.execute("select asset, sum(rows) from traces group by asset").fetchall())
    groups = {
        stage: sum(seconds.get(name, 0.0) for name in seconds if _group(name) == stage) for stage in STAGES
    }
    return Built(
        cost,
        groups,
        {**parts["seconds"], "total": parts["total"]},
        sum(len(keys) for keys in done["computed"].values()),
        {"rows": rows, "weeks": _metrics(home, environment, done)},
    )


def _group(asset: str) -> str:
    folder, _, name = asset.partition("/")
    if name:
        return "quality" if folder in ("profiles", "checks") else folder
    training = dict.fromkeys(("training_set", "training_set_replay"), "training")
    judging = dict.fromkeys(("predictions", "test_set", "evaluation"), "evaluation")
    models = dict.fromkeys(("fraud_lightgbm", "fraud_lightgbm_onnx"), "models")
    return {**training, **models, **judging}.get(asset, "features")


def _metrics(home: Path, environment: dict[str, str], done: dict[str, Any]) -> dict[str, Any]:
    """The figures of the last week."""
    weeks = done["computed"].get("evaluation", [])
    if not weeks:
        return {}
    shown = run(platform_command("evaluation", "--json"), environment)
    found = json.loads(shown.output)
    return {found["week"]: found["models"]["fraud_lightgbm"]}


def _same_results(bare: dict[str, Any], platform: dict[str, Any]) -> None:
    """Both made the same: numbers of rows, and the figures of the last week."""
    for name, rows in bare["mart_rows"].items():
        if platform["rows"][f"marts/{name}"] != rows:
            raise AssertionError(
                f"{name}: {rows} rows by the script, {platform['rows'][f'marts/{name}']} by the platform"
            )
    if platform["rows"]["customer_spending"] != bare["transactions"]:
        raise AssertionError("the platform made features of another number of transactions")
    for week, metrics in platform["weeks"].items():
        if bare["weeks"][week] != metrics:
            raise AssertionError(
                f"week {week}: {bare['weeks'][week]} by the script, {metrics} by the platform"
            )


def _mean(values: Any) -> float:
    found = list(values)
    return sum(found) / len(found)


if __name__ == "__main__":
    main()
