"""Where an epoch's batches come from: the whole training set on the device, or shards that are read ahead."""

import hashlib
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from my_platform.errors import Refused
from my_platform.learning.nets.compute import Compute
from my_platform.learning.nets.sampling import Labels, batches_of_epoch, rows_of_epoch
from my_platform.learning.nets.transforms import Floats, InputTransform

Batch = tuple[torch.Tensor, torch.Tensor]
Copied = tuple[torch.Tensor, torch.Tensor, "torch.cuda.Event | None"]


@dataclass(frozen=True)
class Sampling:
    """How batches are drawn.

    Attributes:
        batch_rows: rows of a batch, over all processes.
        parts: an epoch takes all rows labelled 1 and one of so many parts of the others.
        rank, processes: this process takes every so-many-th row of each batch.
    """

    batch_rows: int
    parts: int
    seed: int
    rank: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if self.batch_rows % self.processes:
            raise Refused(
                f"{self.batch_rows} rows a batch cannot be shared evenly by {self.processes} processes"
            )

    def batches(self, rows: NDArray[np.int64], labels: Labels) -> NDArray[np.int64]:
        """The row numbers of an epoch as batches × this process's rows."""
        count = batches_of_epoch(labels, self.parts, self.batch_rows)
        size = min(self.batch_rows, len(rows) - len(rows) % self.processes)
        return rows[: count * size].reshape(count, size)[:, self.rank :: self.processes]


def digest_of(*arrays: NDArray[Any]) -> str:
    """SHA-256 of the values of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


class Rows(Protocol):
    """Training rows as batches on a device.

    Attributes:
        steps: batches in every epoch.
        digest: tells one training set from another.
        waited_s: for how long the device has had nothing to do, because the rows were not there yet.
    """

    steps: int
    digest: str

    @property
    def waited_s(self) -> float: ...

    def epoch(self, number: int, first: int) -> Iterator[Batch]:
        """Inputs (rows × inputs, float32) and labels (rows, float32) of the batches from `first` on."""
        ...


class DeviceRows:
    """The whole training set on the device. A batch is gathered there by row numbers, and never waited for."""

    waited_s = 0.0

    def __init__(
        self, inputs: NDArray[np.float32], labels: Labels, sampling: Sampling, compute: Compute
    ) -> None:
        self._sampling, self._labels = sampling, labels
        self._inputs = torch.from_numpy(inputs).to(compute.device)
        self._targets = torch.from_numpy(labels.astype(np.float32)).to(compute.device)
        self.steps = batches_of_epoch(labels, sampling.parts, sampling.batch_rows)
        self.digest = digest_of(inputs, labels)

    def epoch(self, number: int, first: int) -> Iterator[Batch]:
        rows = rows_of_epoch(self._labels, self._sampling.parts, self._sampling.seed, number)
        batches = torch.from_numpy(np.ascontiguousarray(self._sampling.batches(rows, self._labels)))
        for batch in batches.to(self._inputs.device)[first:]:
            yield self._inputs.index_select(0, batch), self._targets.index_select(0, batch)


class Shard(Protocol):
    """A part of a training set that is read whole."""

    @property
    def name(self) -> str:
        """Tells it from others, and its content too."""
        ...

    def read(self) -> tuple[Floats, Labels]:
        """Features (rows × features, NaN where missing) and labels."""
        ...


@dataclass(frozen=True)
class ArrayShard:
    """Some rows of arrays that are in memory already."""

    name: str
    features: Floats
    labels: Labels
    rows: NDArray[np.int64]

    def read(self) -> tuple[Floats, Labels]:
        return self.features[self.rows], self.labels[self.rows]


@dataclass(frozen=True)
class NpyShard:
    """Two .npy files: features and labels."""

    features: Path
    labels: Path

    @property
    def name(self) -> str:
        about = [
            (path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in (self.features, self.labels)
        ]
        return repr(about)

    def read(self) -> tuple[Floats, Labels]:
        return np.load(self.features, allow_pickle=False), np.load(self.labels, allow_pickle=False).astype(
            np.bool_
        )


@dataclass(frozen=True)
class Survey:
    """What one pass over shards tells: the labels of each, and a sample of all features."""

    labels: tuple[Labels, ...]
    sample: Floats


def survey(shards: Sequence[Shard], sample_rows: int, seed: int) -> Survey:
    """Read each shard once; from each comes an even share of the sample."""
    labels: list[Labels] = []
    parts: list[NDArray[np.float32]] = []
    for number, shard in enumerate(shards):
        features, found = shard.read()
        labels.append(found)
        rows = np.random.default_rng([seed, number]).permutation(len(found))[: -(-sample_rows // len(shards))]
        parts.append(features[np.sort(rows)].astype(np.float32))
    return Survey(tuple(labels), np.concatenate(parts))


class StreamedRows:
    """A training set that need not fit on the device, nor into memory.

    Threads read and transform the next shards and leave those rows that the epoch takes in pinned memory. The copy of
    a shard to the device is under way while the device works on the one before. Shards come in another order each
    epoch, and rows are shuffled within their shard, so let a shard hold a mix of rows.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        found: Survey,
        transform: InputTransform,
        sampling: Sampling,
        compute: Compute,
        *,
        readers: int = 2,
    ) -> None:
        self._shards, self._labels, self._transform = shards, found.labels, transform
        self._sampling, self._compute, self._readers = sampling, compute, readers
        self._steps = [
            batches_of_epoch(labels, sampling.parts, sampling.batch_rows) for labels in found.labels
        ]
        self.steps = sum(self._steps)
        self.digest = hashlib.sha256("\n".join(shard.name for shard in shards).encode()).hexdigest()
        self._copies: torch.cuda.Stream | None = None
        self._waited_s = 0.0
        self._waits: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def epoch(self, number: int, first: int) -> Iterator[Batch]:
        order = np.random.default_rng([self._sampling.seed, 2, number]).permutation(len(self._shards))
        todo, before = deque[tuple[int, int]](), 0
        for shard in order.tolist():
            if before + self._steps[shard] > first:
                todo.append((shard, max(0, first - before)))
            before += self._steps[shard]
        with ThreadPoolExecutor(self._readers) as pool:
            waiting = deque(todo)
            reading: deque[Future[Batch]] = deque()

            def read_ahead() -> None:
                while waiting and len(reading) < self._readers + 1:
                    reading.append(pool.submit(self._prepare, waiting.popleft()[0], number))

            read_ahead()
            following = self._on_device(reading.popleft())
            for shard, skipped in todo:
                read_ahead()
                inputs, targets = self._arrived(following)
                steps = self._steps[shard]
                size, middle = len(inputs) // steps, (skipped + steps) // 2
                for step in range(skipped, steps):
                    # Not before: waiting for a shard, the device has the first half of this one to work on.
                    if step == middle and reading:
                        following = self._on_device(reading.popleft())
                    rows = slice(step * size, (step + 1) * size)
                    yield inputs[rows], targets[rows]

    def _prepare(self, shard: int, epoch: int) -> Batch:
        """The rows that an epoch takes of a shard, in order, in memory that the device can read by itself."""
        features, labels = self._shards[shard].read()
        if len(labels) != len(self._labels[shard]) or (labels != self._labels[shard]).any():
            raise Refused(
                f"shard {self._shards[shard].name} has changed while a net was fitted on it; fit it again"
            )
        rows = rows_of_epoch(labels, self._sampling.parts, self._sampling.seed, epoch, shard)
        taken = self._sampling.batches(rows, labels).ravel()
        inputs = torch.from_numpy(self._transform.apply(features[taken]))
        targets = torch.from_numpy(labels[taken].astype(np.float32))
        return (inputs.pin_memory(), targets.pin_memory()) if self._compute.on_cuda else (inputs, targets)

    def _on_device(self, reading: "Future[Batch]") -> Copied:
        """Start the copy of a shard, beside what the device is doing."""
        with self._waiting():
            inputs, targets = reading.result()
        if not self._compute.on_cuda:
            return inputs, targets, None
        device = self._compute.device
        if self._copies is None:
            self._copies = torch.cuda.Stream(device)
        with torch.cuda.stream(self._copies):
            copied = inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            return *copied, self._copies.record_event()

    def _arrived(self, copied: Copied) -> Batch:
        """Have the device wait for a copy, and keep its memory until the device is through with it."""
        inputs, targets, done = copied
        if done is not None:
            current = torch.cuda.current_stream(self._compute.device)
            with self._waiting():
                current.wait_event(done)
            for tensor in (inputs, targets):
                tensor.record_stream(current)
        return inputs, targets

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """What the device has not to do within it is waiting; it may be busy with earlier steps all the while."""
        if not self._compute.on_cuda:
            started = time.monotonic()
            yield
            self._waited_s += time.monotonic() - started
            return
        current = torch.cuda.current_stream(self._compute.device)
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record(current)
        yield
        after.record(current)
        self._waits.append((before, after))

    @property
    def waited_s(self) -> float:
        """For how long the device has had nothing to do, because a shard was not there yet; waits for the device."""
        for before, after in self._waits:
            after.synchronize()
            self._waited_s += before.elapsed_time(after) / 1000
        self._waits.clear()
        return self._waited_s
