"""Budgets: what a model may take to be fitted, kept and asked, and what it does take on this machine."""

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

_FEWEST_CALLS, _MOST_CALLS, _ROUNDS = 20, 200, 3
_ROUND_S = 1.0
_PAGES = Path("/proc/self/statm")

Load = Callable[[Mapping[str, bytes]], Callable[[pl.DataFrame], Any]]
"""Makes of a model's files a function from features to scores."""


@dataclass(frozen=True)
class Budget:
    """The limits of a model, scoring one row at a time on one thread.

    Attributes:
        p99_ms: milliseconds within which 99 of 100 rows are scored.
        rows_per_s: rows that are scored within a second, one after the other; at least.
        file_bytes: bytes of its files.
        memory_bytes: resident memory that loading it takes.
        fit_s: seconds that fitting it takes.
        with_features: of a row from its columns to its score, the lookup of its online features included; None where
            that is not limited.
        fit_cpu_s, fit_gpu_s: what fitting it costs, in seconds of processors and of devices; None where that is not
            limited.
    """

    p99_ms: float
    rows_per_s: float
    file_bytes: int
    memory_bytes: int
    fit_s: float
    with_features: "WithFeatures | None" = None
    fit_cpu_s: float | None = None
    fit_gpu_s: float | None = None


@dataclass(frozen=True)
class WithFeatures:
    """Milliseconds within which 99 of 100 rows are scored with their features, and rows within a second."""

    p99_ms: float
    rows_per_s: float


@dataclass(frozen=True)
class Measured:
    """What a model took, in the units of its budget."""

    p99_ms: float
    rows_per_s: float
    file_bytes: int
    memory_bytes: int
    fit_s: float
    with_features: WithFeatures | None = None
    fit_cpu_s: float = 0.0
    fit_gpu_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    files: Mapping[str, bytes],
    load: Callable[[Mapping[str, bytes]], Callable[[Any], Any]],
    rows: Sequence[Any],
    fitted: Mapping[str, float],
) -> Measured:
    """What a model takes to be loaded and to score rows one by one; the best of three rounds.

    Other work on the machine only ever slows a round, so the fastest one is nearest to the model's own time. A
    slow model is asked fewer times, so that measuring it takes seconds.

    Args:
        rows: the features of one row each, as the loaded function takes them, at least one; they are scored in turn.
        fitted: what fitting it took: `fit_s`, `fit_cpu_s` and `fit_gpu_s` of `Measured`.
    """
    before = _resident_bytes()
    score = load(files)
    singles = [rows[at % len(rows)] for at in range(_MOST_CALLS)]
    score(singles[0])
    memory = max(0, _resident_bytes() - before)
    (once,) = _seconds_each(score, singles[:1])
    calls = max(_FEWEST_CALLS, min(_MOST_CALLS, int(_ROUND_S / once)))
    rounds = [_seconds_each(score, singles[:calls]) for _ in range(_ROUNDS)]
    return Measured(
        p99_ms=min(sorted(seconds)[int(0.99 * len(seconds)) - 1] for seconds in rounds) * 1000,
        rows_per_s=calls / min(sum(seconds) for seconds in rounds),
        file_bytes=sum(len(data) for data in files.values()),
        memory_bytes=memory,
        fit_s=fitted["fit_s"],
        fit_cpu_s=fitted["fit_cpu_s"],
        fit_gpu_s=fitted["fit_gpu_s"],
    )


def over_budget(measured: Measured, budget: Budget) -> list[str]:
    """What is over its limit, in words; nothing where all is within."""
    found = [
        (
            measured.p99_ms > budget.p99_ms,
            f"p99 of one row {measured.p99_ms:.2f} ms, limit {budget.p99_ms:g} ms",
        ),
        (
            measured.rows_per_s < budget.rows_per_s,
            f"{measured.rows_per_s:,.0f} rows/s one by one, at least {budget.rows_per_s:,.0f} are asked",
        ),
        (
            measured.file_bytes > budget.file_bytes,
            f"files of {measured.file_bytes:,} bytes, limit {budget.file_bytes:,}",
        ),
        (
            measured.memory_bytes > budget.memory_bytes,
            f"{measured.memory_bytes:,} bytes of memory, limit {budget.memory_bytes:,}",
        ),
        (measured.fit_s > budget.fit_s, f"fitted in {measured.fit_s:,.1f} s, limit {budget.fit_s:,.1f} s"),
        *(
            (spent > limit, f"fitting cost {spent:,.1f} s of {what}, limit {limit:,.1f} s")
            for what, spent, limit in (
                ("processors", measured.fit_cpu_s, budget.fit_cpu_s),
                ("devices", measured.fit_gpu_s, budget.fit_gpu_s),
            )
            if limit is not None
        ),
    ]
    with_features, limit = measured.with_features, budget.with_features
    if with_features is not None and limit is not None:
        found += [
            (
                with_features.p99_ms > limit.p99_ms,
                f"p99 of one row with its features {with_features.p99_ms:.2f} ms, limit {limit.p99_ms:g} ms",
            ),
            (
                with_features.rows_per_s < limit.rows_per_s,
                f"{with_features.rows_per_s:,.0f} rows/s with their features, at least {limit.rows_per_s:,.0f} are asked",
            ),
        ]
    return [said for over, said in found if over]


def _seconds_each(score: Callable[[Any], Any], singles: Sequence[Any]) -> list[float]:
    seconds = []
    for row in singles:
        started = time.perf_counter()
        score(row)
        seconds.append(time.perf_counter() - started)
    return seconds


def _resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not tell."""
    return int(_PAGES.read_text().split()[1]) * resource.getpagesize() if _PAGES.exists() else 0
