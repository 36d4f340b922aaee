"""What was spent: the cost ledger, summed by asset, by week, by run or by partition."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal

from my_platform.incremental.declare import week_start
from my_platform.storage.trace_index import Cost

By = Literal["asset", "week", "run", "partition"]


@dataclass
class Sum:
    """What several computations cost together.

    Attributes:
        recomputed: how many of them had been computed before.
        corrected: the raw partitions among those, which landed anew.
    """

    partitions: int = 0
    recomputed: int = 0
    cpu_s: float = 0.0
    gpu_s: float = 0.0
    gpu_idle_s: float = 0.0
    wall_s: float = 0.0
    peak_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    first_s: float = float("inf")
    corrected: list[str] = field(default_factory=list)

    def add(self, cost: Cost, *, again: bool, raw: bool) -> None:
        self.partitions += 1
        self.recomputed += again
        self.cpu_s += cost.cpu_s
        self.gpu_s += cost.gpu_s
        self.gpu_idle_s += cost.gpu_idle_s or 0.0
        self.wall_s += cost.wall_s
        self.peak_bytes = max(self.peak_bytes, cost.peak_bytes)
        self.read_bytes += cost.read_bytes
        self.written_bytes += cost.written_bytes
        self.first_s = min(self.first_s, cost.at_s)
        if again and raw:
            self.corrected.append(f"{cost.asset} {cost.partition}".strip())

    def as_json(self) -> dict[str, Any]:
        return {
            "partitions": self.partitions,
            "recomputed": self.recomputed,
            "cpu_seconds": round(self.cpu_s, 3),
            "gpu_seconds": round(self.gpu_s, 3),
            "gpu_idle_seconds": round(self.gpu_idle_s, 3),
            "wall_seconds": round(self.wall_s, 3),
            "peak_memory_bytes": self.peak_bytes,
            "bytes_read": self.read_bytes,
            "bytes_written": self.written_bytes,
        }


def costs(ledger: Iterable[Cost], by: By, raw: Sequence[str]) -> dict[str, Any]:
    """The sums of a cost ledger, and their total.

    A run also says when it began and which raw partitions it computed again: those were corrected in landing,
    and the run is what the correction cost.

    Args:
        ledger: the earliest first.
        raw: the assets that read landed files.
    """
    sums: dict[str, Sum] = {}
    total, seen = Sum(), set()
    for cost in ledger:
        again = (cost.asset, cost.partition) in seen
        seen.add((cost.asset, cost.partition))
        for found in (total, sums.setdefault(_key(cost, by), Sum())):
            found.add(cost, again=again, raw=cost.asset in raw)
    rows = [
        {by: key, **found.as_json(), **(_of_run(found) if by == "run" else {})} for key, found in sums.items()
    ]
    ordered = rows if by == "run" else sorted(rows, key=lambda row: str(row[by]))
    return {"by": by, "costs": ordered, "total": total.as_json()}


def _key(cost: Cost, by: By) -> str:
    if by == "asset":
        return cost.asset
    if by == "run":
        return cost.run_id
    if by == "partition":
        return f"{cost.asset} {cost.partition}".strip()
    return week_start(date.fromisoformat(cost.partition)).isoformat() if cost.partition else ""


def _of_run(found: Sum) -> dict[str, Any]:
    began = datetime.fromtimestamp(found.first_s, UTC).isoformat(timespec="seconds")
    return {"at": began, "corrected": found.corrected}
