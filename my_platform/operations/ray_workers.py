"""Workers on a Ray cluster: processes that load the definitions once and compute chunk after chunk of a backfill.

Each is a Ray actor with the processors, and the devices, that its chunks need; Ray finds it a node. It works on the
same home, lake and Dagster instance as the process that has started it, and is gone with that process.
"""

import contextlib
from dataclasses import dataclass
from typing import Any

from my_platform.errors import PlatformError
from my_platform.learning.ray_cluster import connected
from my_platform.operations.backfill_worker import BackfillWorker
from my_platform.operations.outcome import Outcome
from my_platform.operations.profiles import environment_of_workers
from my_platform.operations.spread import Chunk
from my_platform.settings import Settings

# A chunk, or a start, that workers are lost over again and again will not come to an end: most often memory is short.
MOST_LOSSES = 3


@dataclass(frozen=True)
class EndedChunk:
    """A chunk that has ended; the outcome is None where its worker was lost, and `lost` says how."""

    chunk: Chunk
    outcome: Outcome | None
    lost: str = ""


@dataclass
class _Hand:
    """A worker; what it is at, if it has begun with anything."""

    actor: Any
    gpus: int
    chunk: Chunk | None = None


class Fleet:
    """The workers of one backfill.

    Args:
        backfill: its number in the book.

    Raises:
        PlatformError: the cluster cannot be reached, or has not the processors for one worker.
    """

    def __init__(self, settings: Settings, backfill: int) -> None:
        self._settings = settings
        self._backfill = backfill
        self._environment = environment_of_workers()
        self._busy: dict[Any, _Hand] = {}
        self._idle: list[_Hand] = []
        self._lost_starts = 0
        self._connection = contextlib.ExitStack()
        self._connection.enter_context(connected(settings.ray_address))
        self.size = settings.workers or self._room()
        if self._places_for("CPU", settings.worker_cpus) < 1:
            self.close()
            raise PlatformError(
                f"the Ray cluster {settings.ray_address} has no {settings.worker_cpus} CPUs for one worker; start a node "
                "with more, or lower MY_PLATFORM_WORKER_CPUS"
            )

    def provide(self, gpus: int) -> None:
        """Have there be workers with so many devices: as many as the fleet has, or one where it takes devices.

        Raises:
            PlatformError: no node of the cluster has that many devices.
        """
        have = sum(hand.gpus == gpus for hand in [*self._idle, *self._busy.values()])
        if gpus and self._places_for("GPU", gpus) < 1:
            raise PlatformError(
                f"what is owed needs {gpus} CUDA device{'' if gpus == 1 else 's'} of one Ray node, and the cluster "
                f"{self._settings.ray_address} has none; start a node with one, or set MY_PLATFORM_DEVICE=cpu"
            )
        for _ in range((1 if gpus else self.size) - have):
            self._start(gpus)

    def is_idle(self, gpus: int) -> bool:
        """Whether a worker with so many devices waits for a chunk."""
        return any(hand.gpus == gpus for hand in self._idle)

    @property
    def is_working(self) -> bool:
        """Whether a chunk is under way."""
        return any(hand.chunk is not None for hand in self._busy.values())

    def give(self, chunk: Chunk) -> None:
        """Have an idle worker begin a chunk."""
        hand = next(hand for hand in self._idle if hand.gpus == chunk.lane.gpus)
        self._idle.remove(hand)
        hand.chunk = chunk
        self._busy[hand.actor.compute.remote(self._backfill, chunk.places)] = hand

    def wait(self, timeout_s: float) -> list[EndedChunk]:
        """The chunks that ended by then; returns as soon as there is one, or a worker is ready for its first.

        Raises:
            PlatformError: a run broke off, or workers are lost again and again.
        """
        import ray

        done, _ = ray.wait(list(self._busy), num_returns=1, timeout=timeout_s)
        ended = []
        for reference in done:
            hand = self._busy.pop(reference)
            chunk, hand.chunk, lost = hand.chunk, None, ""
            try:
                answer: Outcome | str | None = ray.get(reference)
            except ray.exceptions.RayActorError as error:
                answer, lost = None, str(error)
                self._lost_starts += chunk is None
                check_losses(self._lost_starts, "its start", lost)
                self._start(hand.gpus)
            else:
                self._idle.append(hand)
                if chunk is None:
                    self._lost_starts = 0
            if isinstance(answer, str):
                raise PlatformError(answer)
            if chunk is not None:
                ended.append(EndedChunk(chunk, answer, lost))
        return ended

    def close(self) -> None:
        """End all workers; what they were at is left undone."""
        import ray

        for hand in [*self._idle, *self._busy.values()]:
            with contextlib.suppress(Exception):
                ray.kill(hand.actor)
        self._connection.close()

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, gpus: int) -> None:
        import ray

        cpus = self._settings.worker_cpus
        # Polars counts the processors of the machine, of which a worker has only its share.
        options: dict[str, Any] = {
            "num_cpus": cpus,
            "num_gpus": gpus,
            "runtime_env": {"env_vars": {"POLARS_MAX_THREADS": str(cpus)}},
        }
        actor: Any = ray.remote(BackfillWorker).options(**options).remote(self._settings, self._environment)
        self._busy[actor.ready.remote()] = _Hand(actor, gpus)

    def _room(self) -> int:
        """How many workers there is room for beside a fit over workers, which one of them may begin."""
        settings = self._settings
        fit = settings.fit_workers * settings.threads if settings.fit_over_workers_rows is not None else 0
        return max(1, self._places_for("CPU", settings.worker_cpus) - -(-fit // settings.worker_cpus))

    def _places_for(self, resource: str, number: int) -> int:
        """How many workers there is room for, each on one node with so much of a resource."""
        import ray

        nodes = [node["Resources"].get(resource, 0) for node in ray.nodes() if node["Alive"]]
        return sum(int(has // number) for has in nodes)


def check_losses(losses: int, over: str, how: str) -> None:
    """Raises PlatformError where as many workers were lost over the same thing as are enough."""
    if losses >= MOST_LOSSES:
        raise PlatformError(
            f"a Ray worker was lost {losses} times over {over}; most often its node has too little memory "
            f"(ray status, and the worker's log below /tmp/ray, tell): {how}"
        )
