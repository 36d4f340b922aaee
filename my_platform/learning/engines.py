"""Which engine fits a model: this process, or several processes of a Ray cluster where the training set is large.

The choice depends on the number of rows and on parameters that count in the fingerprint, and on nothing else: the same
fingerprint is fitted by the same engine on any machine.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from my_platform.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Engine:
    """What fits a model.

    Attributes:
        workers: Ray workers; 1 is this process.
        reason: why, in words.
    """

    workers: int
    reason: str

    @property
    def name(self) -> str:
        return "this process" if self.workers == 1 else f"Ray Train on {self.workers} workers"


@dataclass(frozen=True)
class Cluster:
    """Where fits over workers run.

    Attributes:
        address: HOST:PORT of the head of a Ray cluster; ``auto`` for the one that this machine is a node of, empty for
            one that is started for the fit.
        folder: where Ray Train keeps its books, which all nodes reach; what a fit leaves there is removed after it.
    """

    address: str
    folder: Path


ON_THIS_MACHINE = Cluster("", Path(tempfile.gettempdir()))


@dataclass(frozen=True)
class OverWorkers(Generic[T]):
    """What a fit over workers gave.

    Attributes:
        fit_s: seconds that the first worker fitted for; the rest of a fit's time is start-up.
    """

    model: T
    fit_s: float


@dataclass(frozen=True)
class Fitted(Generic[T]):
    """A model, and what is said of its fit."""

    model: T
    engine: Engine
    seconds: float
    fit_s: float

    @property
    def metadata(self) -> dict[str, Any]:
        """For the materialization."""
        return {
            "engine": self.engine.name,
            "engine_reason": self.engine.reason,
            "fit_seconds": round(self.fit_s, 3),
            "engine_start_seconds": round(self.seconds - self.fit_s, 3),
        }


def engine_parameters(settings: Settings) -> dict[str, Any]:
    """The parameters of a model that decide on its engine; none where no size is set, so that nothing changes for it."""
    if settings.fit_over_workers_rows is None:
        return {}
    return {"engine": {"from_rows": settings.fit_over_workers_rows, "workers": settings.fit_workers}}


def cluster_of(settings: Settings) -> Cluster:
    """Where the fits of a home over workers run: on the cluster of its profile, else on this machine."""
    address = settings.ray_address if settings.profile == "cluster" or settings.ray_address != "auto" else ""
    return Cluster(address, settings.checkpoints)


def engine_for(rows: int, parameters: Mapping[str, Any]) -> Engine:
    """The engine for a training set of so many rows.

    Args:
        parameters: of the model, among them what ``engine_parameters`` gives.
    """
    chosen = parameters.get("engine")
    if chosen is None:
        return Engine(1, "MY_PLATFORM_FIT_OVER_WORKERS_ROWS is not set")
    least = chosen["from_rows"]
    if rows < least:
        return Engine(1, f"{rows:,} rows are fewer than {least:,} (MY_PLATFORM_FIT_OVER_WORKERS_ROWS)")
    return Engine(
        chosen["workers"], f"{rows:,} rows are no fewer than {least:,} (MY_PLATFORM_FIT_OVER_WORKERS_ROWS)"
    )


def fitted_by(engine: Engine, here: Callable[[], T], over_workers: Callable[[], OverWorkers[T]]) -> Fitted[T]:
    """Fit by an engine, and take the time."""
    started = time.perf_counter()
    if engine.workers == 1:
        model = here()
        seconds = time.perf_counter() - started
        return Fitted(model, engine, seconds, seconds)
    found = over_workers()
    return Fitted(found.model, engine, time.perf_counter() - started, found.fit_s)
