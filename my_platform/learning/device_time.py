"""For how long devices are at work in this process: a function holds them longer than it uses them.

Like ``time.process_time``, the readings only grow, and what lies between two of them is told. They are for the cost
ledger; nothing that is hashed may depend on them.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DeviceTime:
    """Seconds of all devices together.

    Attributes:
        used_s: for which devices had work; at most, since what is done on the processor meanwhile is not told apart.
        waited_s: for which a device waited for data between one piece of work and the next.
    """

    used_s: float = 0.0
    waited_s: float = 0.0

    def __sub__(self, before: "DeviceTime") -> "DeviceTime":
        return DeviceTime(self.used_s - before.used_s, self.waited_s - before.waited_s)


@dataclass
class _Readings:
    lock: threading.Lock = field(default_factory=threading.Lock)
    total: DeviceTime = DeviceTime()


_READINGS = _Readings()


def device_time() -> DeviceTime:
    """What was told in this process until now."""
    return _READINGS.total


def tell_device_time(spent: DeviceTime) -> None:
    """Tell of work that is done, as that of other processes."""
    with _READINGS.lock:
        before = _READINGS.total
        _READINGS.total = DeviceTime(before.used_s + spent.used_s, before.waited_s + spent.waited_s)


@contextmanager
def device_at_work(waited_s: Callable[[], float] = lambda: 0.0) -> Iterator[None]:
    """Within it, one device is at work.

    Args:
        waited_s: asked at the end; for how much of the time the device waited for data all the same.
    """
    started = time.monotonic()
    try:
        yield
    finally:
        waited = waited_s()
        tell_device_time(DeviceTime(max(time.monotonic() - started - waited, 0.0), waited))
