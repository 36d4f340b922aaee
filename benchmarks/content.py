"""Data versions and sealed Parquet: gigabytes a second by type, and milliseconds for a day.

`make bench BENCHMARKS=content ARGS=--write`
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import xxhash

from benchmarks._report import machine, publish, table, temporary_folder
from my_platform.domains.fraud.features import customer_spending
from my_platform.domains.fraud.simulator import SimulatorConfig, land_simulation
from my_platform.features import offline
from my_platform.incremental.content import data_version
from my_platform.storage.sealed import check_seal, seal, unseal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of each column")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    options = parser.parse_args()
    load = os.getloadavg()
    lines = [
        *_by_type(options.rows, options.repeats),
        "",
        *_of_a_day(options.repeats),
        "",
        machine(load),
    ]
    publish(
        "content",
        "Data versions and sealed Parquet",
        "make bench BENCHMARKS=content ARGS=--write",
        lines,
        write=options.write,
    )


def _by_type(rows: int, repeats: int) -> list[str]:
    columns = _columns(rows)
    raw = np.random.default_rng(0).bytes(rows * 8)
    limit_s = _best(lambda: xxhash.xxh3_128_digest(raw), repeats)
    found = [["bytes, XXH3-128 alone", f"{len(raw) / 1e6:.0f}", f"{len(raw) / limit_s / 1e9:.2f}"]]
    for name, column in columns.items():
        frame = pl.DataFrame([column])
        size = frame.estimated_size()
        seconds = _best(lambda frame=frame: data_version(frame), repeats)
        found.append([name, f"{size / 1e6:.0f}", f"{size / seconds / 1e9:.2f}"])
    return [
        f"`data_version` of one column of {rows:,} rows, by the size that polars estimates; best of {repeats}:",
        "",
        *table(["type", "MB", "GB/s"], found),
    ]


def _of_a_day(repeats: int) -> list[str]:
    with temporary_folder() as folder:
        first = date(2018, 4, 1)
        land_simulation(folder, first=first, days=1, config=SimulatorConfig(), closed=True)
        day = pl.read_parquet(folder / "transactions" / f"{first}.parquet")
    features = offline.compute(customer_spending, day)
    rows = []
    for name, frame in (("transactions", day), ("customer_spending", features)):
        record = {"inputs": {"raw/transactions": {str(first): "0" * 32}}, "nonce": "0" * 16}
        sealed = seal(frame, record)
        steps: dict[str, Callable[[], object]] = {
            "data_version": lambda frame=frame: data_version(frame),
            "seal": lambda frame=frame, record=record: seal(frame, record),
            "check": lambda sealed=sealed: check_seal(sealed, "day"),
            "unseal": lambda sealed=sealed: unseal(sealed, "day"),
        }
        taken = {step: _median(action, repeats * 5) for step, action in steps.items()}
        rows.append(
            [
                name,
                f"{frame.height:,}",
                frame.width,
                f"{len(sealed) / 1e3:.0f}",
                *(f"{taken[step] * 1e3:.2f}" for step in steps),
            ]
        )
    return [
        "A day of 5,000 customers, median milliseconds (`seal` writes the Parquet file, `unseal` checks and reads it):",
        "",
        *table(["table", "rows", "columns", "kB", "data_version", "seal", "check", "unseal"], rows),
    ]


def _columns(rows: int) -> dict[str, pl.Series]:
    draw = np.random.default_rng(0)
    integers = pl.Series("x", draw.integers(0, 10**9, rows))
    floats = pl.Series("x", draw.normal(size=rows))
    holes = pl.Series(draw.random(rows) < 0.1)
    start = datetime(2018, 4, 1)
    times = pl.Series("x", (draw.integers(0, 86_400_000_000, rows))).cast(pl.Duration("us")) + start
    words = pl.Series("x", draw.integers(0, 1000, rows)).cast(pl.String)
    sentences = (
        "payment at terminal number " + pl.Series("x", draw.integers(0, 10**6, rows)).cast(pl.String)
    ).alias("x")
    few = rows // 4
    return {
        "Int64": integers,
        "Int32": integers.cast(pl.Int32),
        "Float64": floats,
        "Float64, 10 % null": pl.select(x=pl.when(~holes).then(floats)).to_series(),
        "Float64, 10 % NaN": pl.select(x=pl.when(holes).then(float("nan")).otherwise(floats)).to_series(),
        "Boolean": pl.Series("x", draw.random(rows) < 0.5),
        "Datetime (us)": times,
        "Date": pl.Series("x", draw.integers(0, 20_000, rows).astype(np.int32)).cast(pl.Date),
        "Duration (us)": times - start + timedelta(0),
        "String, 3 bytes": words,
        "String, 33 bytes": sentences,
        "Categorical": words.cast(pl.Categorical),
        "Decimal(18, 2)": (integers.head(few) / 100).cast(pl.Decimal(18, 2)),
        "Binary, 33 bytes": sentences.head(few).cast(pl.Binary),
        "List of Int64, 4 each": integers.head(few * 4).reshape((few, 4)).arr.to_list(),
        "Struct of two Int64": pl.DataFrame({"a": integers, "b": integers}).to_struct("x"),
    }


def _best(action: Callable[[], object], repeats: int) -> float:
    return min(_times(action, repeats))


def _median(action: Callable[[], object], repeats: int) -> float:
    return statistics.median(_times(action, repeats))


def _times(action: Callable[[], object], repeats: int) -> list[float]:
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return taken


if __name__ == "__main__":
    main()
