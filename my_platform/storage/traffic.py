"""What is asked of an object store: requests by kind, and bytes. Buckets are paid by the request."""

import threading
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Requests:
    """Requests by kind and bytes of bodies; what a client tries again by itself counts once."""

    get: int = 0
    head: int = 0
    put: int = 0
    list: int = 0
    delete: int = 0
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def total(self) -> int:
        return self.get + self.head + self.put + self.list + self.delete

    def __add__(self, other: "Requests") -> "Requests":
        return Requests(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: "Requests") -> "Requests":
        return Requests(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    def as_json(self) -> dict[str, int]:
        return {"requests": self.total, **{f.name: getattr(self, f.name) for f in fields(self)}}


class Traffic:
    """Counts requests of one client, whose threads may ask at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sum = Requests()

    def count(self, **more: int) -> None:
        """Add requests and bytes, by the names of ``Requests``."""
        with self._lock:
            self._sum += Requests(**more)

    @property
    def so_far(self) -> Requests:
        return self._sum
