"""Work spread over Ray: two workers against one, what a chunk costs by who launches it, and a fit over two workers.

`make bench BENCHMARKS=scale ARGS=--write`; `--only workers,launchers,fit` for one of the parts. PostgreSQL, an S3 server
and Ray's nodes run on this machine and share its cores with what is measured.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from assets_tests.operations import shop
from assets_tests.operations.served import served, until
from assets_tests.ray_cluster import Node, ray_cluster
from assets_tests.scale.places import environment, place
from assets_tests.storage.s3_servers import moto_server, variables
from benchmarks._homes import FIRST, land, refresh
from benchmarks._report import in_child, machine, platform_command, publish, run, table, temporary_folder

PARTS = ("workers", "launchers", "fit")
COMMAND = "make bench BENCHMARKS=scale ARGS=--write"
LIBRARIES = ("dagster", "dagster-ray", "ray", "polars", "lightgbm")
DAILY = "group:raw or group:references or group:validated or group:features"
WEEK, TEST_DAYS = date(2018, 6, 6), 7
SHOP = {"MY_PLATFORM_DOMAINS": "assets_tests.operations.shop"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {', '.join(PARTS)}")
    parser.add_argument("--days", type=int, default=60, help="days that are backfilled over workers")
    parser.add_argument(
        "--rounds", type=int, default=2, help="backfills with each number of workers, in turns"
    )
    parser.add_argument("--write", action="store_true", help="replace the sections in docs/benchmarks.md")
    options = parser.parse_args()
    parts = {"workers": _workers, "launchers": _launchers, "fit": _fit}
    for part in options.only.split(","):
        load = os.getloadavg()
        with temporary_folder() as folder:
            title, lines = parts[part](folder, options)
        publish(f"scale_{part}", title, COMMAND, [*lines, "", machine(load, LIBRARIES)], write=options.write)


@contextmanager
def _home(folder: Path, profile: str, more: dict[str, str]) -> Iterator[Path]:
    """A home of a profile whose landing and lake are folders, so that the S3 server has nothing to do but logs."""
    landing = folder / "landing"
    with moto_server() as url:
        s3 = variables(url)
        with temporary_folder() as empty, temporary_folder() as made:
            places = {"MY_PLATFORM_LANDING_URL": str(landing), "MY_PLATFORM_LAKE_URL": str(made / "lake")}
            with place(profile, empty, s3, {**more, **places, "MY_PLATFORM_PROMOTE": "never"}):
                yield made / "home"


def _workers(folder: Path, options: argparse.Namespace) -> tuple[str, list[str]]:
    source = land(folder, FIRST + timedelta(days=options.days - 1))
    spent: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    with ray_cluster(Node(), Node()) as ray:
        for _ in range(options.rounds):
            for workers, found in spent.items():
                with _home(folder, "cluster", {**ray, "MY_PLATFORM_WORKERS": str(workers)}) as home:
                    found.append(_backfill(home, DAILY))
    best = {workers: min(each["span_s"] for each in found) for workers, found in spent.items()}
    start_s = min(each["start_s"] for found in spent.values() for each in found)
    rows = [
        [
            str(n),
            *(", ".join(f"{each[what]:.1f}" for each in found) for what in ("span_s", "start_s", "runs")),
        ]
        for n, found in spent.items()
    ]
    partitions = int(spent[1][0]["computed"])
    return "A backfill over two Ray workers against one", [
        f"{options.days} days of {source}, the daily assets to the features: {partitions:,} partitions, computed on a "
        "cluster of two nodes with a processor each, PostgreSQL beside them, landing and lake in folders. A worker has "
        "one processor, and polars one thread. From the first chunk's begin to the last one's end, and what came before: "
        "the command's start, the plan, and the start of the workers.",
        "",
        *table(["workers", "s", "s before", "chunks"], rows),
        "",
        f"Two workers are **{best[1] / best[2]:.2f}** times as fast as one beyond start-up, which takes "
        f"{start_s:.0f} s; by the faster of {options.rounds} backfills each, in turns.",
    ]


def _backfill(home: Path, selection: str, *words: str) -> dict[str, float]:
    """Order a backfill; seconds that its runs took all in all, and seconds before the first of them."""
    ordered_at = time.time()
    cost = run(platform_command("backfill", selection, "--json", *words), {"MY_PLATFORM_HOME": str(home)})
    done = json.loads(cost.output[cost.output.index("{") :])
    if done["state"] != "done":
        raise RuntimeError(f"the backfill ended as {done['state']}: {done['failed']}")
    runs, _ = in_child("benchmarks.scale:runs_of", str(home))
    begin, end = min(each[0] for each in runs), max(each[1] for each in runs)
    return {
        "span_s": end - begin,
        "start_s": begin - ordered_at,
        "runs": len(runs),
        "computed": done["computed"],
    }


def runs_of(home: str) -> list[tuple[float, float, float]]:
    """Of each run when it was launched and when it ended, in seconds since 1970, and seconds that it computed for."""
    from my_platform.operations.session import opened
    from my_platform.settings import load_settings

    with opened(load_settings(home=Path(home))) as session:
        lake, names = session.workspace.lake, sorted(session.workspace.project.assets)
        computed: dict[str, float] = {}
        for trace in lake.index.traces(names):
            record = lake.record(trace.asset, trace.partition, trace.data_version)
            assert record is not None
            computed[record["run_id"]] = computed.get(record["run_id"], 0.0) + trace.seconds
        found = []
        for each in session.instance.get_run_records():
            stats = session.instance.get_run_stats(each.dagster_run.run_id)
            begun = stats.launch_time or stats.start_time
            if begun and stats.end_time:
                found.append((begun, stats.end_time, computed.get(each.dagster_run.run_id, 0.0)))
        return found


def _launchers(folder: Path, _options: argparse.Namespace) -> tuple[str, list[str]]:
    shop.land_days(folder, 12)
    rows = []
    with ray_cluster(Node(), Node()) as ray:
        one = {**ray, "MY_PLATFORM_WORKERS": "1", **SHOP}
        for name, profile, more, ordered in (
            ("in the process of the command", "server", SHOP, _chunks),
            ("a Ray worker that has loaded the definitions", "cluster", one, _chunks),
            ("a process each (`DefaultRunLauncher`)", "server", SHOP, _by_the_daemon),
            ("a Ray job each (`RayRunLauncher`)", "cluster", one, _by_the_daemon),
        ):
            with _home(folder, profile, dict(more)) as home:
                ordered(home)
                runs, _ = in_child("benchmarks.scale:runs_of", str(home))
            over = [end - begin - computed for begin, end, computed in runs]
            rows.append([name, str(len(runs)), f"{sum(over) / len(over):.2f}", f"{min(over):.2f}"])
    return "What a chunk costs, by who launches it", [
        "The shop of the tests, twelve days of four rows, on PostgreSQL: from the launch of a run to its end, less what "
        "its partitions took to compute. Chunks of five partitions from the command line; from the UI the runs of a "
        "backfill of everything, one after the other or beside one another as the daemon launches them.",
        "",
        *table(["launched as", "runs", "s a run", "s of the fastest"], rows),
    ]


def _chunks(home: Path) -> None:
    _backfill(home, "*", "--chunk", "5")


def _by_the_daemon(home: Path) -> None:
    with served(home) as ui:
        ui.stop_sensor()
        ui.backfill()
        until(lambda: not ui.busy())


def _fit(folder: Path, _options: argparse.Namespace) -> tuple[str, list[str]]:
    home = folder / "home"
    variables = {"MY_PLATFORM_HOME": str(home), "MY_PLATFORM_PROMOTE": "never"}
    source = land(home, WEEK)
    refresh(home, DAILY, environment=variables)
    weekly = 'key:"training_set" or key:"training_set_replay"'
    refresh(home, weekly, "--from", str(WEEK), "--through", str(WEEK), environment=variables)
    with ray_cluster(Node(), Node()) as ray:
        address = ray["MY_PLATFORM_RAY_ADDRESS"]
        with environment(variables):
            found, _ = in_child("benchmarks.scale:fits", address, str(folder / "ray"))
    rows = [
        [name, *(f"{number:.4f}" for number in [ap]), f"{fit_s:.1f}", f"{start_s:.1f}"]
        for name, ap, fit_s, start_s in found["fits"]
    ]
    (_, alone, *_), (_, over, *_) = found["fits"]
    return "LightGBM over two Ray workers against one process", [
        f"The training set of {WEEK} on {source}: fitted on its first {found['rows']:,} rows, and tested on the "
        f"{found['tested']:,} of its last {TEST_DAYS} days. The model's own parameters, one thread a process, two nodes "
        "with a processor each.",
        "",
        *table(["fitted by", "average precision", "s of the fit", "s to start"], rows),
        "",
        f"The average precisions are **{abs(over - alone):.4f}** apart.",
    ]


def fits(address: str, folder: str) -> dict[str, Any]:
    """Average precision, seconds of the fit and of its start, by one process and by two Ray workers."""
    import polars as pl
    from sklearn.metrics import average_precision_score

    from my_platform.domains.fraud import parameters
    from my_platform.domains.fraud.features import FEATURES
    from my_platform.learning.engines import Cluster, Engine
    from my_platform.learning.fitting import fit_lightgbm_by, predict_lightgbm
    from my_platform.operations.session import opened
    from my_platform.settings import load_settings

    with opened(load_settings()) as session:
        version = session.versions()["training_set"][str(WEEK)]
        rows = session.workspace.lake.read("training_set", str(WEEK), version).sort("TX_DATETIME")
    days = pl.col("TX_DATETIME").dt.date()
    last = rows.select(days.max()).item() - timedelta(days=TEST_DAYS)
    earlier, later = rows.filter(days <= last), rows.filter(days > last)
    found = []
    for name, workers in (("one process", 1), ("two Ray workers", 2)):
        fitted = fit_lightgbm_by(
            Engine(workers, "measured"),
            Cluster(address, Path(folder)),
            earlier.select(FEATURES),
            earlier["IS_FRAUD"].to_numpy(),
            parameters.LIGHTGBM_PARAMETERS,
            parameters.BOOSTING_ROUNDS,
            parameters.SEED,
            1,
        )
        scores = predict_lightgbm(fitted.model, later.select(FEATURES))
        ap = float(average_precision_score(later["IS_FRAUD"].to_numpy(), scores))
        found.append((name, ap, fitted.fit_s, fitted.seconds - fitted.fit_s))
    return {"fits": found, "rows": earlier.height, "tested": later.height}


if __name__ == "__main__":
    main()
