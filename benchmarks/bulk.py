"""Bulk scoring: Parquet to Parquet with the ONNX model that serves, beside LightGBM's own predict on the same rows.

`make bench BENCHMARKS=bulk ARGS=--write`. The model has the fraud model's parameters and features, fitted on drawn rows
whose label hangs on some of them. Both are measured in turn in one process.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks._report import machine, publish, table, temporary_folder
from my_platform.domains.fraud.features import FEATURES
from my_platform.domains.fraud.parameters import BOOSTING_ROUNDS, LIGHTGBM_PARAMETERS, SEED
from my_platform.learning.bundle import Bundle, read_bundle, write_bundle
from my_platform.learning.export.parity import MODEL_FILE
from my_platform.learning.export.scoring import as_matrix
from my_platform.learning.export.trees import lightgbm_onnx
from my_platform.learning.fitting import fit_lightgbm
from my_platform.serving.bulk import score_file
from my_platform.serving.champion_scores import champion_model

COMMAND = "make bench BENCHMARKS=bulk ARGS=--write"
FITTED_ROWS = 30_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the file")
    parser.add_argument("--times", type=int, default=3, help="how often each is measured; the median counts")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    options = parser.parse_args()
    load = os.getloadavg()
    with temporary_folder() as folder:
        lines = measured(folder, options.rows, options.times, options.threads)
    publish("bulk", "Bulk scoring", COMMAND, [*lines, "", machine(load)], write=options.write)


def measured(folder: Path, rows: int, times: int, threads: int) -> list[str]:
    import lightgbm as lgb

    text, bundle = fitted(folder)
    source, target = folder / "rows.parquet", folder / "scores.parquet"
    draw(rows, 2).with_row_index("TRANSACTION_ID").write_parquet(source, row_group_size=1 << 17)
    booster = lgb.Booster(model_str=text)
    matrix = as_matrix(pl.read_parquet(source, columns=list(FEATURES)))
    model = champion_model(bundle)

    def by_lightgbm() -> None:
        found = pl.read_parquet(source)
        scores = booster.predict(as_matrix(found.select(FEATURES)), num_threads=threads)
        found.select("TRANSACTION_ID", PROBABILITY=pl.Series(scores)).write_parquet(folder / "others.parquet")

    ways: dict[str, Callable[[], object]] = {
        "the score command, Parquet to Parquet": lambda: score_file(source, target, bundle, threads=threads),
        "LightGBM, Parquet to Parquet, all rows in memory": by_lightgbm,
        "ONNX Runtime, the model alone, one thread": lambda: model.rows(matrix),
        "LightGBM's predict alone, one thread": lambda: booster.predict(matrix, num_threads=1),
        "LightGBM's predict alone": lambda: booster.predict(matrix, num_threads=threads),
    }
    seconds = in_turn(ways, times)
    same = pl.read_parquet(target)["PROBABILITY"] - pl.read_parquet(folder / "others.parquet")["PROBABILITY"]
    ours, theirs, alone, single, predict = seconds.values()
    return [
        f"{rows:,} rows of {len(FEATURES)} features, {BOOSTING_ROUNDS} trees, {threads} threads each; largest "
        f"difference between the two {same.abs().max():.1e}.",
        "",
        *table(["", "rows/s"], [[name, f"{rows / s:,.0f}"] for name, s in seconds.items()]),
        "",
        f"Parquet to Parquet {theirs / ours:.2f} × LightGBM's; from Parquet to Parquet {predict / ours:.2f} × LightGBM's "
        f"predict alone, the model alone on one thread {single / alone:.2f} ×.",
    ]


def fitted(folder: Path) -> tuple[str, Bundle]:
    rows = draw(FITTED_ROWS, 1)
    risk = rows[FEATURES[0]].to_numpy() + rows[FEATURES[-1]].fill_null(0).to_numpy()
    labels = (risk > np.quantile(risk, 0.98)).astype(np.int8)
    text = fit_lightgbm(rows, labels, LIGHTGBM_PARAMETERS, BOOSTING_ROUNDS, SEED, 1)
    about = {
        "features": list(FEATURES),
        "model": "fraud_lightgbm",
        "week": "2018-08-08",
        "operating_threshold": {"score": 0.5},
    }
    digest = write_bundle(folder, about, {MODEL_FILE: lightgbm_onnx(text)})
    return text, read_bundle(folder, digest)


def draw(rows: int, seed: int) -> pl.DataFrame:
    """Rows of skewed positive features, every tenth value missing where the last ones are missing too."""
    random = np.random.default_rng(seed)
    found = {name: random.lognormal(3, 1, rows).round(2) for name in FEATURES}
    missing = random.random(rows) < 0.1
    half = len(FEATURES) // 2
    return pl.DataFrame(
        {
            name: pl.Series(values)
            if at < half
            else pl.Series(np.where(missing, np.nan, values)).fill_nan(None)
            for at, (name, values) in enumerate(found.items())
        }
    )


def in_turn(ways: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """Median seconds of each, measured in turn so that a busy machine slows all alike."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(times):
        for name, action in ways.items():
            started = time.perf_counter()
            action()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(found) for name, found in taken.items()}


if __name__ == "__main__":
    main()
