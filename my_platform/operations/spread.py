"""A plan handed out to several workers: chunks that run at the same time never read each other."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from my_platform.incremental.declare import Asset
from my_platform.incremental.planner import Entry, window_keys
from my_platform.operations.chunks import CHUNK_S, cut
from my_platform.operations.platform import Project
from my_platform.operations.refresh import Planned

# A worker gets several chunks, so that all end at about the same time; a shorter one would mostly be overhead.
_CHUNKS_A_WORKER = 3
_LEAST_CHUNK_S = 5.0


@dataclass(frozen=True)
class Lane:
    """What a worker has to have for a chunk, and the Dagster pool that its steps would be held back by.

    Attributes:
        gpus: CUDA devices.
    """

    pool: str = ""
    gpus: int = 0


@dataclass(frozen=True)
class Chunk:
    """Entries of one lane, of which none reads what another chunk that runs beside it makes."""

    lane: Lane
    entries: tuple[Entry, ...]

    @property
    def places(self) -> list[tuple[str, int]]:
        """Assets and the planner's numbers of partitions."""
        return [(entry.asset, entry.key) for entry in self.entries]


def lane_of(asset: Asset) -> Lane:
    """The lane of an asset's partitions."""
    return Lane(asset.pool or "", asset.gpus)


def chunk_seconds(left_s: float, workers: int) -> float:
    """How long a chunk may take, so that each worker gets several and none more than about a minute."""
    return min(CHUNK_S, max(_LEAST_CHUNK_S, left_s / (workers * _CHUNKS_A_WORKER)))


class Spread:
    """What is left to do of a plan, and what is being done.

    Args:
        entries: in an order in which what an entry reads stands before it, as ``chunks.in_turn`` gives them.
        limits: chunks of a pool that may run at the same time; of a pool that is not named, one.
    """

    def __init__(
        self, project: Project, planned: Planned, entries: Sequence[Entry], limits: Mapping[str, int]
    ) -> None:
        self._project = project
        self._states = planned.states
        self._limits = limits
        self._left = {(entry.asset, entry.key): entry for entry in entries}
        # What another chunk makes, or will: nothing of it may be read yet.
        self._undone = set(self._left)
        self._running: list[Chunk] = []

    @property
    def lanes(self) -> list[Lane]:
        """The lanes of what is left, those that need a device first."""
        found = {lane_of(self._project.assets[asset]) for asset, _ in self._left}
        return sorted(found, key=lambda lane: (-lane.gpus, lane.pool))

    def take(
        self,
        gpus: int,
        seconds: Callable[[Entry], float | None],
        most: int | None,
        chunk_s: float,
    ) -> Chunk | None:
        """A chunk for a worker with so many devices that can be begun now, if there is one."""
        for lane in self.lanes:
            if lane.gpus != gpus or self._is_full(lane):
                continue
            entries = cut(self._ready(lane), seconds, most, chunk_s)
            if entries:
                chunk = Chunk(lane, tuple(entries))
                for place in chunk.places:
                    del self._left[place]
                self._running.append(chunk)
                return chunk
        return None

    def done(self, chunk: Chunk) -> None:
        """A chunk has ended: what reads it can be begun."""
        self._running.remove(chunk)
        self._undone.difference_update(chunk.places)

    def back(self, chunk: Chunk) -> None:
        """The worker of a chunk was lost: it is to be done once more, before all else."""
        self._running.remove(chunk)
        again = {(entry.asset, entry.key): entry for entry in chunk.entries}
        self._left = again | self._left

    def _is_full(self, lane: Lane) -> bool:
        if not lane.pool:
            return False
        running = sum(chunk.lane.pool == lane.pool for chunk in self._running)
        return running >= self._limits.get(lane.pool, 1)

    def _ready(self, lane: Lane) -> list[Entry]:
        """What is left of a lane and reads nothing but what is done, or stands before it in this list."""
        ready: list[Entry] = []
        ours: set[tuple[str, int]] = set()
        for place, entry in self._left.items():
            asset = self._project.assets[entry.asset]
            if lane_of(asset) == lane and self._is_ready(asset, entry.key, ours):
                ready.append(entry)
                ours.add(place)
        return ready

    def _is_ready(self, asset: Asset, key: int, ours: Collection[tuple[str, int]]) -> bool:
        for read in asset.reads.values():
            for parent in window_keys(read, self._states[read.asset], key):
                place = (read.asset, parent)
                if place in self._undone and place not in ours:
                    return False
        return True
