"""The service at a glance: what it decided last, how long that took, and whether its scores have moved.

Read from the prediction log on a connection of its own, so that another thread may do it.
"""

import json
import math
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from my_platform.learning.health import score_classes
from my_platform.quality.drift import chance_index, stability_index

# So many of the last scores of a bundle are held against so many of those before them, if there are enough.
_NEW, _FORMER, _FEWEST = 1_000, 10_000, 200
_TENTHS = 10
_COLUMNS = "row, at_us, bundle, degraded, probability, threshold, flagged, latency_us"


def recent_decisions(log: Path, most: int) -> dict[str, Any]:
    """The last decisions, the latest first, and how the service does by the last of them.

    Latency is from the parsed request to the log's write. `drift` is the stability index of the last 1,000 scores of the
    bundle that scored last against up to 10,000 of its own before them, above what chance gives; null for fewer than 200.
    """
    with closing(sqlite3.connect(f"file:{log}?mode=ro", uri=True, timeout=5.0)) as database:
        rows = database.execute(
            f"select {_COLUMNS} from predictions order by rowid desc limit ?", (most,)
        ).fetchall()
        scores: list[float] = []
        times: list[int] = []
        flagged = 0
        for bundle, probability, latency_us, was_flagged in database.execute(
            "select bundle, probability, latency_us, flagged from predictions order by rowid desc limit ?",
            (_NEW + _FORMER,),
        ):
            if bundle != rows[0][2]:
                break
            scores.append(probability)
            if len(times) < _NEW:
                times.append(latency_us)
                flagged += was_flagged
    new, former = scores[:_NEW], scores[_NEW:]
    return {
        "decisions": [
            {
                "row": json.loads(row),
                "scored_at": datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="milliseconds"),
                "bundle": bundle,
                "degraded": degraded,
                "probability": probability,
                "threshold": threshold if math.isfinite(threshold) else None,
                "flagged": bool(was_flagged),
                "latency_us": latency_us,
            }
            for row, at_us, bundle, degraded, probability, threshold, was_flagged, latency_us in rows
        ],
        "rows": len(times),
        "flagged": flagged,
        "latency_us": {"p50": _quantile(times, 0.5), "p99": _quantile(times, 0.99)},
        "scores": _by_tenth(new),
        "scores_before": _by_tenth(former),
        "drift": _drift(new, former) if min(len(new), len(former)) >= _FEWEST else None,
    }


def _quantile(times: list[int], share: float) -> int | None:
    return sorted(times)[math.ceil(len(times) * share) - 1] if times else None


def _by_tenth(scores: list[float]) -> list[int]:
    """How many scores there are from each tenth on, up to the next."""
    counts = [0] * _TENTHS
    for score in scores:
        counts[min(int(score * _TENTHS), _TENTHS - 1)] += 1
    return counts


def _drift(new: list[float], former: list[float]) -> float:
    shares, wanted = score_classes(pl.Series(former), pl.Series(new))
    return max(0.0, stability_index(shares, wanted, len(new)) - chance_index(len(new)))
