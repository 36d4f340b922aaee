"""Nets: samples a second against the same net fed by a plain DataLoader, on the device at hand.

`make bench BENCHMARKS=nets ARGS=--write`, or on a machine that has nothing but torch and numpy
`python -m benchmarks.nets --write`.
"""

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, TensorDataset

from benchmarks._report import machine, publish, table, temporary_folder
from my_platform.learning.nets.compute import Compute, pick_device
from my_platform.learning.nets.distributed import Group
from my_platform.learning.nets.fit import Host, Recipe, TrainingSet, fit_net
from my_platform.learning.nets.net import predict
from my_platform.learning.nets.sampling import last_rows
from my_platform.learning.nets.sources import (
    Batch,
    DeviceRows,
    NpyShard,
    Rows,
    Sampling,
    StreamedRows,
    survey,
)
from my_platform.learning.nets.tabm import Architecture, TabM
from my_platform.learning.nets.training import Fit, Stopping, Training
from my_platform.learning.nets.transforms import InputTransform, fit_transform

FEATURES = 36
SHARDS = 16
_PROFILED_STEPS = 50
_WARM_UP_STEPS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows", type=int, help="training rows; default: 2,000,000 on CUDA, 100,000 otherwise"
    )
    parser.add_argument("--steps", type=int, help="measured steps; default: 300 on CUDA, 15 otherwise")
    parser.add_argument("--batch", type=int, help="rows of a batch; default: 4,096 on CUDA, 512 otherwise")
    parser.add_argument("--width", type=int, default=128, help="width of the net")
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    options = parser.parse_args()
    load, compute = os.getloadavg(), pick_device()
    rows = options.rows or (2_000_000 if compute.on_cuda else 100_000)
    steps = options.steps or (300 if compute.on_cuda else 15)
    batch = options.batch or (4_096 if compute.on_cuda else 512)
    recipe = Recipe(
        Architecture(width=options.width, dropout=0.0), Training(batch_rows=batch, parts=1, epochs=3), seed=1
    )
    lines = [
        f"A net of {recipe.architecture.members} submodels of width {options.width} over {FEATURES} features, "
        f"{rows:,} made-up rows, batches of {batch:,}, {steps} steps; {_device(compute)}.",
        "",
        *_feeding(_made_up(rows), recipe, compute, steps),
        *(_on_cuda(recipe, compute) if compute.on_cuda else []),
        "",
        machine(load, ("torch", "numpy")),
    ]
    publish(
        "nets_cuda" if compute.on_cuda else "nets",
        f"Fitting nets on {'CUDA' if compute.on_cuda else 'the processor'}",
        "make bench BENCHMARKS=nets ARGS=--write",
        lines,
        write=options.write,
    )


class LoaderRows:
    """The same rows by way of torch's DataLoader: a row at a time, collated, copied to the device."""

    def __init__(
        self, inputs: NDArray[np.float32], labels: NDArray[np.bool_], batch: int, compute: Compute
    ) -> None:
        data = TensorDataset(torch.from_numpy(inputs), torch.from_numpy(labels.astype(np.float32)))
        self._loader = DataLoader(data, batch, shuffle=True, drop_last=True, pin_memory=compute.on_cuda)
        self._device = compute.device
        self.steps, self.digest = len(self._loader), ""

    def epoch(self, number: int, first: int) -> Iterator[Batch]:
        for inputs, labels in self._loader:
            yield inputs.to(self._device, non_blocking=True), labels.to(self._device, non_blocking=True)


def _feeding(data: TrainingSet, recipe: Recipe, compute: Compute, steps: int) -> list[str]:
    """Samples a second by where the batches come from."""
    batch = recipe.training.batch_rows
    transform = fit_transform(data.features[:100_000], data.names, recipe.training.bins)
    inputs = transform.apply(data.features)
    sampling = Sampling(batch, 1, recipe.seed)
    with temporary_folder() as folder:
        shards = _shards(data, folder)
        streamed = StreamedRows(
            shards,
            survey(shards, 10_000, 1),
            transform,
            sampling,
            compute,
            readers=max(2, (os.cpu_count() or 2) // 4),
        )
        sources: dict[str, Rows] = {
            "rows on the device, batches by index": DeviceRows(inputs, data.labels, sampling, compute),
            f"{SHARDS} shards read ahead from disk": streamed,
            "DataLoader": LoaderRows(inputs, data.labels, batch, compute),
        }
        speeds = {
            name: _samples_a_second(rows, transform, recipe, compute, steps) for name, rows in sources.items()
        }
        found = []
        for name, rows in sources.items():
            alone = _samples_a_second(rows, transform, recipe, compute, steps, feed_only=True)
            found.append(
                [name, f"{speeds[name]:,.0f}", f"{speeds[name] / speeds['DataLoader']:.2f}", f"{alone:,.0f}"]
            )
        # Over several shards, since the first of an epoch is always waited for.
        passed = max(steps, 3 * streamed.steps // SHARDS)
        waited = _waiting_share(streamed, transform, recipe, compute, passed)
    lines = table(["batches from", "samples/s", "× DataLoader", "samples/s of the feeding alone"], found)
    lines += [
        "",
        f"Fitting on shards, {waited:.1%} of the time of {passed} steps goes into waiting for a shard.",
    ]
    if compute.on_cuda:
        lines += [
            "",
            f"The device computes in {_busy_share(sources, transform, recipe, compute)} of the time.",
        ]
    return lines


def _samples_a_second(
    rows: Rows,
    transform: InputTransform,
    recipe: Recipe,
    compute: Compute,
    steps: int,
    *,
    feed_only: bool = False,
) -> float:
    """Over so many steps after a few that do not count; with `feed_only` nothing is done with a batch."""
    with compute.seeded():
        fit = _fit(rows, transform, recipe, compute)
        batches = _endless(rows)
        for inputs, labels in islice(batches, _WARM_UP_STEPS):
            fit.take_step(inputs, labels)
        _finish(compute)
        started = time.perf_counter()
        for inputs, labels in islice(batches, steps):
            if not feed_only:
                fit.take_step(inputs, labels)
        _finish(compute)
        return steps * recipe.training.batch_rows / (time.perf_counter() - started)


def _waiting_share(
    rows: StreamedRows, transform: InputTransform, recipe: Recipe, compute: Compute, steps: int
) -> float:
    """The share of the time in which a fit has nothing to work on, after a few steps that do not count."""
    with compute.seeded():
        fit, batches = _fit(rows, transform, recipe, compute), _endless(rows)
        for inputs, labels in islice(batches, _WARM_UP_STEPS):
            fit.take_step(inputs, labels)
        _finish(compute)
        started, before = time.perf_counter(), rows.waited_s
        for inputs, labels in islice(batches, steps):
            fit.take_step(inputs, labels)
        _finish(compute)
        return (rows.waited_s - before) / (time.perf_counter() - started)


def _busy_share(sources: dict[str, Rows], transform: InputTransform, recipe: Recipe, compute: Compute) -> str:
    """The share of the time in which a kernel runs, by source."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    shares = []
    for name, rows in sources.items():
        with compute.seeded():
            fit, batches = _fit(rows, transform, recipe, compute), _endless(rows)
            for inputs, labels in islice(batches, _WARM_UP_STEPS):
                fit.take_step(inputs, labels)
            _finish(compute)
            with profile(activities=[ProfilerActivity.CUDA]) as seen:
                for inputs, labels in islice(batches, _PROFILED_STEPS):
                    fit.take_step(inputs, labels)
                _finish(compute)
        spans = sorted(
            (event.time_range.start, event.time_range.end)
            for event in seen.events()
            if event.device_type == DeviceType.CUDA
        )
        busy, reached = 0.0, spans[0][0]
        for start, end in spans:
            busy += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        shares.append(f"{busy / (reached - spans[0][0]):.0%} ({name})")
    return ", ".join(shares)


def _on_cuda(recipe: Recipe, compute: Compute) -> list[str]:
    """bfloat16 against float32: seconds of a fit, and how well it ranks rows of later days."""
    data = _made_up(400_000)
    later = last_rows(data.days, data.labels, 0.2)
    earlier = TrainingSet(data.features[~later], data.labels[~later], data.days[~later], data.names)
    found = []
    for precision in ("float32", "bfloat16"):
        host = Host(replace(compute, precision=precision))
        started = time.perf_counter()
        net = fit_net(earlier, recipe, host)
        taken = time.perf_counter() - started
        scores = predict(net, data.features[later], replace(compute, precision="float32"))
        found.append([precision, f"{taken:.1f}", f"{_average_precision(data.labels[later], scores):.4f}"])
    return ["", *table(["precision", "seconds of a fit", "average precision"], found)]


def _fit(rows: Rows, transform: InputTransform, recipe: Recipe, compute: Compute) -> Fit:
    torch.manual_seed(recipe.seed)
    module = TabM(recipe.architecture, transform.edges, len(transform.flagged))
    nothing = Stopping(np.zeros((0, FEATURES), np.float32), np.zeros(0, np.bool_), np.zeros(0))
    return Fit(module, rows, nothing, recipe.training, recipe.seed, compute, Group(), None)


def _endless(rows: Rows) -> Iterator[Batch]:
    number = 0
    while True:
        yield from rows.epoch(number, 0)
        number += 1


def _made_up(rows: int) -> TrainingSet:
    random = np.random.default_rng(0)
    features = random.normal(size=(rows, FEATURES)).astype(np.float32)
    odds = features[:, :6].sum(1) + 2 * (features[:, 6] * features[:, 7]) - 6
    labels = random.random(rows) < 1 / (1 + np.exp(-odds))
    names = tuple(f"feature {number}" for number in range(FEATURES))
    return TrainingSet(features, labels, np.sort(random.integers(0, 35, rows)), names)


def _shards(data: TrainingSet, folder: Path) -> list[NpyShard]:
    shards = []
    for number in range(SHARDS):
        shard = NpyShard(folder / f"features-{number}.npy", folder / f"labels-{number}.npy")
        np.save(shard.features, data.features[number::SHARDS], allow_pickle=False)
        np.save(shard.labels, data.labels[number::SHARDS], allow_pickle=False)
        shards.append(shard)
    return shards


def _average_precision(labels: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    hits = labels[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def _device(compute: Compute) -> str:
    name = (
        torch.cuda.get_device_name(compute.device)
        if compute.on_cuda
        else f"processor, {compute.threads} thread"
    )
    return f"{name}, {compute.precision}"


def _finish(compute: Compute) -> None:
    if compute.on_cuda:
        torch.cuda.synchronize(compute.device)


if __name__ == "__main__":
    main()
