"""How much memory a process may take, and where it puts what does not fit.

What is computed is the same either way. A value is computed in memory where an estimate says that it fits, else a part of
its rows at a time, with the rest in files below ``spill``.
"""

import os
import re
import resource
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from my_platform.errors import MemoryLimitError

_KIB = 1024
SETTING = "MY_PLATFORM_MEMORY_LIMIT"
# Of what a limit leaves, the share that tables and what is made of them are planned to take: allocators keep some of
# what was freed, files that are mapped count, and estimates are no measurements. With 0.7, training sets over sixty days
# took up to 731 MB of 650; with 0.6 at most 628.
_PLANNED_SHARE = 0.6
_CACHED_SHARE = 0.125
_MOST_CACHED_BYTES = 1 << 30
# A text or a list, of which the type tells no size.
_TEXT_BYTES = 32
# Reading, computing and copies: what a function takes that is given all of its rows, in sizes of its inputs, as it was
# measured of fits and of training sets that were not taken apart.
AS_A_WHOLE = 3.0


@dataclass(frozen=True)
class Memory:
    """The memory of a process.

    Attributes:
        limit_bytes: what the process and those that it starts may take together; None for as much as there is.
        spill: the folder of what does not fit; it is made when it is needed.
        own_bytes: what the process takes before it has read a row.
    """

    limit_bytes: int | None = None
    spill: Path = field(default_factory=lambda: Path(tempfile.gettempdir(), "my_platform_spill"))
    own_bytes: int = 0

    @property
    def left_bytes(self) -> int | None:
        """What a limit leaves for rows; None where there is no limit."""
        return None if self.limit_bytes is None else max(self.limit_bytes - self.own_bytes, 0)

    @property
    def cached_bytes(self) -> int:
        """What tables may take that are kept because they may be read again."""
        if self.left_bytes is None:
            return _MOST_CACHED_BYTES
        return min(int(self.left_bytes * _CACHED_SHARE), _MOST_CACHED_BYTES)

    @property
    def room_bytes(self) -> int | None:
        """What the work on one partition, or on one part of it, may take; None where there is no limit."""
        if self.left_bytes is None:
            return None
        return int((self.left_bytes - self.cached_bytes) * _PLANNED_SHARE)

    def fits(self, needed_bytes: float) -> bool:
        """Whether work that needs so much may be done at once."""
        return self.room_bytes is None or needed_bytes <= self.room_bytes

    def require(self, asset: str, partition: str, needed_bytes: float, why: str) -> None:
        """Raise MemoryLimitError where work does not fit that cannot be taken apart."""
        if self.fits(needed_bytes):
            return
        assert self.limit_bytes is not None
        assert self.room_bytes is not None
        least = int(needed_bytes / _PLANNED_SHARE / (1 - _CACHED_SHARE)) + self.own_bytes
        raise MemoryLimitError(
            f"{asset} {partition}".strip()
            + f" needs about {in_words(needed_bytes)}, {why}; the limit of {in_words(self.limit_bytes)} leaves "
            f"{in_words(self.room_bytes)} for it. Set {SETTING} to {in_words(least, up=True)} or more"
        )

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder below ``spill``, named after this process, that is gone afterwards."""
        mine = self.spill / f"{os.getpid()}@{socket.gethostname()}"
        mine.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=mine) as folder:
            yield Path(folder)


def table_bytes(rows: int, types: Mapping[str, pl.DataType]) -> int:
    """What a table takes in memory, by its types; texts and lists are taken for short ones."""
    return rows * sum(width(kind) for kind in types.values())


def width(kind: pl.DataType) -> int:
    """Bytes of a value."""
    if kind.is_integer() or kind.is_float():
        return int(re.sub(r"\D", "", str(kind))) // 8
    if isinstance(kind, pl.Boolean):
        return 1
    if isinstance(kind, pl.Date | pl.Categorical | pl.Enum):
        return 4
    if kind.is_temporal():
        return 8
    return 16 if isinstance(kind, pl.Decimal) else _TEXT_BYTES


def resident_bytes() -> int:
    """The memory that this process has now; where the system does not tell that, the most that it has had."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        # Not Linux, whose unit is the only one in KiB.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_bytes() -> int:
    """The most memory that this process has had."""
    try:
        with open("/proc/self/status") as file:
            told = next(line for line in file if line.startswith("VmHWM:"))
        return int(told.split()[1]) * _KIB
    except (FileNotFoundError, StopIteration):
        # On Linux this counts also what the process had that started this one.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def in_words(size: float, *, up: bool = False) -> str:
    """A number of bytes for people, such as 1.4GB; rounded up where it is a least one."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit or unit == 1e6:
            tenths = -(-size * 10 // unit) if up else round(size * 10 / unit)
            return f"{tenths / 10:g}{name}"
    raise AssertionError
