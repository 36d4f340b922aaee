"""Fitting a net on rows in memory, or on shards that are read ahead while the device works."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from my_platform.errors import Refused
from my_platform.learning.device_time import device_at_work
from my_platform.learning.nets.checkpoints import identity
from my_platform.learning.nets.compute import Compute
from my_platform.learning.nets.distributed import Group
from my_platform.learning.nets.net import Net, best_members, probabilities, prune
from my_platform.learning.nets.sampling import Labels, last_rows
from my_platform.learning.nets.sources import (
    ArrayShard,
    DeviceRows,
    Rows,
    Sampling,
    Shard,
    StreamedRows,
    digest_of,
    survey,
)
from my_platform.learning.nets.tabm import Architecture, TabM
from my_platform.learning.nets.training import Fit, Interruptible, Stopping, Training
from my_platform.learning.nets.transforms import Floats, InputTransform, fit_transform

# Of the device's free memory, what a training set may take: the rest is for the net and its activations.
_SHARE_OF_MEMORY = 0.5
ROWS_OF_A_SHARD = 1 << 20
# Rows of a streamed training set that its transform is fitted on.
_SAMPLE_ROWS = 500_000


@dataclass(frozen=True)
class TrainingSet:
    """Labelled rows in memory.

    Attributes:
        features: rows × features, NaN where missing.
        days: of each row, as a number; the last ones tell when to stop.
        names: of the features.
    """

    features: Floats
    labels: Labels
    days: NDArray[np.integer]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    """All that decides what a net will be, but for the rows."""

    architecture: Architecture
    training: Training
    seed: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Recipe":
        return cls(Architecture(**found["architecture"]), Training(**found["training"]), found["seed"])


@dataclass(frozen=True)
class Host:
    """Where a fit runs.

    Attributes:
        group: the processes that fit together, each on a device of its own and all on the same rows.
        on_epoch: told of each epoch: its number, training loss and stopping loss.
    """

    compute: Compute = field(default_factory=Compute)
    checkpoints: Interruptible | None = None
    group: Group = field(default_factory=Group)
    on_epoch: Callable[[Mapping[str, float]], None] = lambda _: None


def fit_net(rows: TrainingSet, recipe: Recipe, host: Host, start: Net | None = None) -> Net:
    """Fit a net on rows in memory. They go to the device whole, or in shards where they do not fit there.

    Args:
        start: a net to go on from, with its transform; its architecture must be the recipe's.

    Raises:
        Refused: a class has no row, the loss is no number any more, or the net learned nothing.
    """
    last = last_rows(rows.days, rows.labels, recipe.training.stopping_share)
    held_out = ArrayShard("last days", rows.features, rows.labels, np.flatnonzero(last))
    if not fits_in_memory(len(rows.labels), len(rows.names), recipe.training, host.compute):
        # Shuffled, so that each shard holds rows of all days.
        order = np.random.default_rng([recipe.seed, 4]).permutation(np.flatnonzero(~last))
        shards = [
            ArrayShard(f"{number} of {len(order)} rows", rows.features, rows.labels, part)
            for number, part in enumerate(np.array_split(order, -(-len(order) // ROWS_OF_A_SHARD)))
        ]
        return fit_streamed(shards, held_out, rows.names, recipe, host, start)
    features, labels = rows.features[~last], rows.labels[~last]
    transform = start.transform if start else fit_transform(features, rows.names, recipe.training.bins)
    source = DeviceRows(transform.apply(features), labels, _sampling(recipe, host), host.compute)
    return _fit(source, float(labels.mean()), held_out, transform, recipe, host, start)


def fit_streamed(
    shards: Sequence[Shard],
    held_out: Shard,
    names: Sequence[str],
    recipe: Recipe,
    host: Host,
    start: Net | None = None,
) -> Net:
    """Fit a net on shards, each of which is small beside the memory. The transform is fitted on a sample of them.

    Args:
        held_out: rows of later days, by which the fit is stopped.

    Raises:
        Refused: as `fit_net`, or a shard has changed meanwhile.
    """
    found = survey(shards, _SAMPLE_ROWS, recipe.seed)
    labels = np.concatenate(found.labels)
    if not labels.any() or labels.all():
        raise Refused(f"expected rows of both classes, found {int(labels.sum())} labelled 1 in {len(labels)}")
    transform = start.transform if start else fit_transform(found.sample, names, recipe.training.bins)
    source = StreamedRows(shards, found, transform, _sampling(recipe, host), host.compute)
    net = _fit(source, float(labels.mean()), held_out, transform, recipe, host, start)
    return replace(net, about={**net.about, "shards": len(shards)})


def fits_in_memory(rows: int, features: int, training: Training, compute: Compute) -> bool:
    """Whether a training set is fitted on whole: as large as its recipe allows, and with room on the device."""
    free = compute.free_bytes()
    return rows <= training.rows_in_memory and (
        free is None or 4 * rows * features <= _SHARE_OF_MEMORY * free
    )


def _sampling(recipe: Recipe, host: Host) -> Sampling:
    training = recipe.training
    return Sampling(training.batch_rows, training.parts, recipe.seed, host.group.rank, host.group.processes)


def _fit(
    source: Rows,
    base_rate: float,
    held_out: Shard,
    transform: InputTransform,
    recipe: Recipe,
    host: Host,
    start: Net | None,
) -> Net:
    """Fit on batches from anywhere; `base_rate` is the share of rows labelled 1."""
    architecture, training, compute = recipe.architecture, recipe.training, host.compute
    if start is not None and replace(start.architecture, dropout=0.0) != replace(architecture, dropout=0.0):
        raise Refused(
            f"a fit can go on from a net of its own architecture: expected {architecture}, found {start.architecture}"
        )
    stopping = _stopping(held_out, transform, recipe)
    with compute.seeded():
        torch.manual_seed(recipe.seed)
        module = TabM(architecture, transform.edges, len(transform.flagged))
        if start is None:
            module.start_from(base_rate)
        else:
            module.load_state_dict({name: torch.tensor(array) for name, array in start.weights.items()})
        fit = Fit(module, source, stopping, training, recipe.seed, compute, host.group, host.checkpoints)
        warm = start.digest if start else ""
        name = identity(
            source.digest,
            digest_of(stopping.inputs, stopping.labels),
            transform.as_json(),
            recipe.as_json(),
            asdict(compute),
            torch.__version__,
            warm,
        )
        with device_at_work(lambda: source.waited_s):
            fitted = fit.run(name, host.on_epoch)
        about = {
            **recipe.as_json(),
            **fitted,
            "base_rate": base_rate,
            "device": compute.device.partition(":")[0],
            "precision": compute.precision,
            "started_from": warm,
        }
        weights = {name: array.cpu().numpy() for name, array in fit.best.items()}
        net = Net(architecture, transform, weights, about)
        if training.keep < architecture.members:
            with device_at_work():
                found = probabilities(net.module(compute), torch.from_numpy(stopping.inputs), compute)
            net = prune(net, best_members(found, stopping.labels, stopping.weights, training.keep))
    return net


def _stopping(held_out: Shard, transform: InputTransform, recipe: Recipe) -> Stopping:
    """The rows to stop by: all that are labelled 1, and of the others one in `stopping_parts`."""
    features, labels = held_out.read()
    parts = recipe.training.stopping_parts
    taken = labels | (np.random.default_rng([recipe.seed, 3]).random(len(labels)) < 1 / parts)
    weights = np.where(labels[taken], 1.0, float(parts))
    return Stopping(transform.apply(features[taken]), labels[taken], weights)
