"""Training sets and fits: what the platform adds to reading rows and to calling LightGBM; the demo's net.

`make bench BENCHMARKS=training ARGS=--write`
"""

import argparse
import json
import os
import statistics
import time
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks._homes import FIRST, land, refresh
from benchmarks._report import (
    in_child,
    machine,
    platform_command,
    publish,
    run,
    table,
    temporary_folder,
)

COMMAND = "make bench BENCHMARKS=training ARGS=--write"
WEEK = date(2018, 6, 6)
WINDOW_DAYS = 35
DAILY = "group:raw or group:references or group:validated or group:features"
MODEL = "fraud_lightgbm"
DEMO = ("--days", "120", "--customers", "1000", "--terminals", "2000", "--start", str(FIRST))
DEMO_WEEK = date(2018, 7, 25)
_KINDS = ("direct", "platform")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="fits of each kind, in turns")
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    options = parser.parse_args()
    load = os.getloadavg()
    with temporary_folder() as folder:
        lines = [*_measure(folder / "home", options.rounds), "", *_demo_net(folder / "demo")]
    publish("training", "Training sets and fits", COMMAND, [*lines, "", machine(load)], write=options.write)


def _measure(home: Path, rounds: int) -> list[str]:
    environment, source = _environment(home), land(home, WEEK)
    refresh(home, DAILY, environment=environment)
    week = ["--from", str(WEEK), "--through", str(WEEK)]
    weekly = f'key:"training_set" or key:"training_set_replay" or key:"{MODEL}"'
    refresh(home, weekly, *week, environment=environment)
    spent = {row["partition"]: row for row in _costs(home)}
    assembled = spent[f"training_set {WEEK}"]
    found, _ = in_child("benchmarks.training:fit_in_turns", str(home), rounds, environment=environment)
    spent_by = {kind: [statistics.median(part) for part in zip(*found[kind], strict=True)] for kind in _KINDS}
    more = [through / direct - 1 for direct, through in zip(*spent_by.values(), strict=True)]
    in_memory = [assembled["wall_seconds"], assembled["cpu_seconds"]]
    in_child("benchmarks.training:choose_another_rate", str(home), environment=environment)
    again = refresh(home, f"{DAILY} or {weekly}", *week, environment=environment)
    computed = again.computed
    if set(computed) != {MODEL}:
        raise RuntimeError(f"another learning rate computed {computed}")
    return [
        f"{WINDOW_DAYS} days of {source}, {found['rows']:,} rows of {found['features']} features, on "
        f"{found['threads']} threads. `lightgbm.train` on arrays that are in memory, and the function of the model's "
        f"asset on the stored table: to arrays, fitted, as text with all that is told of it; medians of {rounds}, in "
        "turns:",
        "",
        *table(
            ["", "seconds", "of processors"],
            [
                [name, *(f"{seconds:.2f}" for seconds in each)]
                for name, each in (
                    ("`lightgbm.train`", spent_by["direct"]),
                    ("the platform's function", spent_by["platform"]),
                    ("the training set, read and assembled", in_memory),
                )
            ],
        ),
        "",
        f"The platform takes **{more[0]:+.1%}** on top of the fit by the clock, {more[1]:+.1%} of processor time. The "
        "training set's seconds are those of its cost ledger: reading the days' partitions checked, joining, judging "
        "for leaks.",
        "",
        "Another learning rate then computes "
        + ", ".join(f"{number} × `{name}`" for name, number in computed.items())
        + ", and no feature and no training set.",
    ]


def _demo_net(home: Path) -> list[str]:
    """What the demo's net takes to fit, by the cost ledger."""
    environment = {
        "MY_PLATFORM_HOME": str(home),
        "MY_PLATFORM_NETS": "budget",
        "MY_PLATFORM_PROMOTE": "never",
    }
    run(platform_command("simulate", *DEMO), environment)
    refresh(home, DAILY, environment=environment)
    week = ["--from", str(DEMO_WEEK), "--through", str(DEMO_WEEK)]
    net = 'key:"training_set" or key:"training_set_replay" or key:"fraud_tabm"'
    refresh(home, net, *week, environment=environment)
    fit = next(row for row in _costs(home) if row["partition"] == f"fraud_tabm {DEMO_WEEK}")
    return [
        "`MY_PLATFORM_NETS=budget` on a home like the demo's (120 simulated days, 1,000 customers, 2,000 terminals) fits "
        f"its net for {DEMO_WEEK} in **{fit['wall_seconds']:.0f} s**, {fit['cpu_seconds']:.0f} s of processor time, on one "
        "thread."
    ]


def fit_in_turns(home: str, rounds: int) -> dict[str, Any]:
    """Seconds by the clock and of processors, of fits by LightGBM alone and by the asset's function, in turns."""
    import lightgbm as lgb
    import numpy as np
    import polars as pl

    from my_platform.domains.fraud import models, parameters
    from my_platform.domains.fraud.features import FEATURES
    from my_platform.learning import fitting
    from my_platform.operations import session
    from my_platform.settings import load_settings

    settings = load_settings()
    with session.opened(settings) as opened:
        versions = opened.versions()
        lake, key = opened.workspace.lake, str(WEEK)
        version = versions["training_set"][key]
        stored = lake.read("training_set", key, version)
        replay = lake.read("training_set_replay", key, versions["training_set_replay"][key])
    matrix = np.ascontiguousarray(stored.select(FEATURES).cast(pl.Float64).to_numpy())
    labels = stored["IS_FRAUD"].to_numpy().astype(np.float32)
    declared = {
        "lightgbm": dict(parameters.LIGHTGBM_PARAMETERS),
        "rounds": parameters.BOOSTING_ROUNDS,
        "seed": parameters.SEED,
        "window_days": WINDOW_DAYS,
    }
    given = {
        **parameters.LIGHTGBM_PARAMETERS,
        "objective": "binary",
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
        "num_threads": settings.threads,
        "seed": parameters.SEED,
    }
    seconds: dict[str, list[tuple[float, float]]] = {kind: [] for kind in _KINDS}
    fitting.fit_lightgbm(stored.select(FEATURES), labels, {}, 2, 1, settings.threads)
    for _ in range(rounds):
        started = _clocks()
        lgb.train(dict(given), lgb.Dataset(matrix, label=labels), num_boost_round=parameters.BOOSTING_ROUNDS)
        between = _clocks()
        models.fraud_lightgbm(
            stored.lazy(), replay.lazy(), key, declared, {"training_set": {key: version}}, settings.threads
        )
        ended = _clocks()
        seconds["direct"].append((between[0] - started[0], between[1] - started[1]))
        seconds["platform"].append((ended[0] - between[0], ended[1] - between[1]))
    return {**seconds, "rows": stored.height, "features": len(FEATURES), "threads": settings.threads}


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def choose_another_rate(home: str) -> None:
    """Write down another learning rate for the model, as a finished search does."""
    from my_platform.domains.fraud.tuning import lightgbm_parameters
    from my_platform.settings import load_settings
    from my_platform.storage.choices import Choice, Choices
    from my_platform.storage.places import open_place

    settings = load_settings()
    other = {**lightgbm_parameters(settings, None), "learning_rate": 0.04}
    choice = Choice(MODEL, other, [], "benchmark", "2018-06-06T00:00:00+00:00")
    Choices(open_place(settings.landing)).add(choice)


def _costs(home: Path) -> list[dict[str, Any]]:
    of_home = {"MY_PLATFORM_HOME": str(home)}
    cost = run(platform_command("costs", "--by", "partition", "--json"), of_home)
    found: list[dict[str, Any]] = json.loads(cost.output[cost.output.index("{") :])["costs"]
    return found


def _environment(home: Path) -> dict[str, str]:
    return {
        "MY_PLATFORM_HOME": str(home),
        "MY_PLATFORM_TRAINING_WINDOW_DAYS": str(WINDOW_DAYS),
        "MY_PLATFORM_PROMOTE": "never",
    }


if __name__ == "__main__":
    main()
