"""What computing a partition takes: seconds by the clock and of processors, memory, bytes read, requests to buckets."""

import resource
import time
from dataclasses import dataclass
from typing import Any

from my_platform.operations.platform import Workspace

_KIB = 1024


@dataclass(frozen=True)
class Spent:
    """What was spent between two readings of a meter; `peak_bytes` is the process's peak until the second."""

    at_s: float
    wall_s: float
    cpu_s: float
    peak_bytes: int
    read_bytes: int
    requests: int = 0

    def shared(self, partitions: int) -> "Spent":
        """An equal share for each of several partitions that were computed in one call."""
        n = max(partitions, 1)
        return Spent(
            self.at_s,
            self.wall_s / n,
            self.cpu_s / n,
            self.peak_bytes,
            self.read_bytes // n,
            self.requests // n,
        )

    def as_record(self, gpus: int) -> dict[str, Any]:
        """What is stored beside a value that held so many devices; the lake adds the seconds by the clock."""
        return {
            **({"gpu_seconds": round(self.wall_s * gpus, 6)} if gpus else {}),
            "at": round(self.at_s, 3),
            "cpu_seconds": round(self.cpu_s, 6),
            "peak_memory_bytes": self.peak_bytes,
            "bytes_read": self.read_bytes,
            **({"requests": self.requests} if self.requests else {}),
        }


class Meter:
    """Reads what this process, its threads and the processes that it waited for have spent."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.start()

    def start(self) -> None:
        """Leave out what was spent until now."""
        self._wall, self._cpu, self._read, self._asked = self._now()

    def read(self) -> Spent:
        """What was spent since the meter was started; starts it again."""
        wall, cpu, read, asked = self._now()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB
        spent = Spent(
            time.time(), wall - self._wall, cpu - self._cpu, peak, read - self._read, asked - self._asked
        )
        self._wall, self._cpu, self._read, self._asked = wall, cpu, read, asked
        return spent

    def _now(self) -> tuple[float, float, int, int]:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = time.process_time() + children.ru_utime + children.ru_stime
        asked, lake, landing = self._workspace.requests, self._workspace.lake, self._workspace.landing
        return time.perf_counter(), cpu_s, lake.bytes_read + landing.bytes_read, asked.total if asked else 0
