"""What computing a partition takes: seconds by the clock, of processors and of devices, memory, bytes, requests."""

import resource
import time
from dataclasses import dataclass, field
from typing import Any

from my_platform.incremental.memory import peak_bytes
from my_platform.learning.device_time import DeviceTime, device_time
from my_platform.operations.platform import Workspace


@dataclass(frozen=True)
class Spent:
    """What was spent between two readings of a meter; `peak_bytes` is the process's peak until the second.

    Attributes:
        devices: what the function told of the devices that it used.
    """

    at_s: float
    wall_s: float
    cpu_s: float
    peak_bytes: int
    read_bytes: int
    requests: int = 0
    devices: DeviceTime = field(default_factory=DeviceTime)

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
            DeviceTime(self.devices.used_s / n, self.devices.waited_s / n),
        )

    def as_record(self, gpus: int) -> dict[str, Any]:
        """What is stored beside a value that held so many devices; the lake adds the seconds by the clock."""
        return {
            **(self._of_devices(gpus) if gpus else {}),
            "at": round(self.at_s, 3),
            "cpu_seconds": round(self.cpu_s, 6),
            "peak_memory_bytes": self.peak_bytes,
            "bytes_read": self.read_bytes,
            **({"requests": self.requests} if self.requests else {}),
        }

    def _of_devices(self, gpus: int) -> dict[str, float]:
        """For how long devices were held, and idle meanwhile; the latter only of a function that tells of its work."""
        held_s, found = self.wall_s * gpus, self.devices
        told = {"gpu_idle_seconds": max(held_s - found.used_s, 0.0), "gpu_waited_seconds": found.waited_s}
        numbers = {"gpu_seconds": held_s, **(told if found != DeviceTime() else {})}
        return {name: round(seconds, 6) for name, seconds in numbers.items()}


class Meter:
    """Reads what this process, its threads and the processes that it waited for have spent."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.start()

    def start(self) -> None:
        """Leave out what was spent until now."""
        self._wall, self._cpu, self._read, self._asked = self._now()
        self._devices = device_time()

    def read(self) -> Spent:
        """What was spent since the meter was started; starts it again."""
        wall, cpu, read, asked = self._now()
        peak = peak_bytes()
        devices = device_time()
        spent = Spent(
            time.time(),
            wall - self._wall,
            cpu - self._cpu,
            peak,
            read - self._read,
            asked - self._asked,
            devices - self._devices,
        )
        self._wall, self._cpu, self._read, self._asked = wall, cpu, read, asked
        self._devices = devices
        return spent

    def _now(self) -> tuple[float, float, int, int]:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = time.process_time() + children.ru_utime + children.ru_stime
        asked, lake, landing = self._workspace.requests, self._workspace.lake, self._workspace.landing
        return time.perf_counter(), cpu_s, lake.bytes_read + landing.bytes_read, asked.total if asked else 0
