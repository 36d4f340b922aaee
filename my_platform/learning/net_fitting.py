"""TabM for a yes-or-no label on tables: fit to files, predict from files.

A net is its files: weights as safetensors, and architecture, input transform and how it was fitted as JSON. Check
the digest of stored files before they come here.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from my_platform.errors import Refused
from my_platform.learning.engines import Cluster, Engine, Fitted, OverWorkers, fitted_by
from my_platform.learning.shards import LabelledRows

if TYPE_CHECKING:
    from my_platform.learning.nets.fit import TrainingSet
    from my_platform.learning.nets.net import Net


def fit_tabm(
    features: pl.DataFrame,
    labels: ArrayLike,
    days: pl.Series,
    recipe: Mapping[str, Any],
    device: Literal["cpu", "cuda"],
    *,
    devices: int = 1,
    checkpoints: Path | None = None,
    start: Mapping[str, bytes] | None = None,
) -> "Net":
    """Fit a net.

    On the processor the same arguments give the same files; on CUDA they differ from fit to fit in the last digits.

    Args:
        features: one numeric column a feature; nulls are missing values.
        labels: one 0 or 1 a row.
        days: the date of each row. The last days are not fitted on; they tell when to stop.
        recipe: architecture, training and seed, as `nets.fit.Recipe` has them.
        devices: CUDA devices that fit it together.
        checkpoints: where an interrupted fit leaves what it has done, and goes on from.
        start: files of a net to go on from, on one device; its architecture must be the recipe's.

    Raises:
        Refused: a feature is not numeric, a label is missing, a class has no row, or the fit diverged.
        PlatformError: torch sees no CUDA device, and one was asked for.
    """
    from my_platform.learning.nets.compute import pick_device
    from my_platform.learning.nets.distributed import fit_in_processes
    from my_platform.learning.nets.fit import Host, Recipe, fit_net
    from my_platform.learning.nets.net import Net
    from my_platform.learning.nets.training import Interruptible

    rows = _training_set(features, labels, days)
    interruptible = Interruptible(checkpoints) if checkpoints else None
    if device == "cuda" and devices > 1 and start is None:
        return fit_in_processes(rows, Recipe.from_json(recipe), devices, device, interruptible)
    former = Net.of_files(start) if start is not None else None
    return fit_net(rows, Recipe.from_json(recipe), Host(pick_device(device), interruptible), former)


def fit_tabm_on(
    labelled: LabelledRows,
    recipe: Mapping[str, Any],
    device: Literal["cpu", "cuda"],
    *,
    devices: int = 1,
    checkpoints: Path | None = None,
    start: Mapping[str, bytes] | None = None,
) -> "Net":
    """Fit a net on rows that are read as they are needed: whole where they fit, else in shards of some days.

    The rest is as of `fit_tabm`. Several devices share rows that are in memory.
    """
    from my_platform.learning.nets.compute import pick_device
    from my_platform.learning.nets.fit import ROWS_OF_A_SHARD, Host, Recipe, fit_streamed, fits_in_memory
    from my_platform.learning.nets.net import Net
    from my_platform.learning.nets.training import Interruptible

    known, together = Recipe.from_json(recipe), device == "cuda" and devices > 1 and start is None
    if together or fits_in_memory(
        labelled.height, len(labelled.features), known.training, pick_device(device)
    ):
        return fit_tabm(
            *_in_memory(labelled), recipe, device, devices=devices, checkpoints=checkpoints, start=start
        )
    shards, held_out = labelled.shards(known.training.stopping_share, ROWS_OF_A_SHARD)
    host = Host(pick_device(device), Interruptible(checkpoints) if checkpoints else None)
    former = Net.of_files(start) if start is not None else None
    return fit_streamed(shards, held_out, labelled.features, known, host, former)


def fit_tabm_by(
    engine: Engine,
    cluster: Cluster,
    labelled: LabelledRows,
    recipe: Mapping[str, Any],
    device: Literal["cpu", "cuda"],
    *,
    devices: int = 1,
    checkpoints: Path | None = None,
) -> "Fitted[Net]":
    """The same by an engine: over workers each batch is shared by them, on a device each where it is CUDA.

    Raises:
        Refused: as `fit_tabm`.
        PlatformError: as `fit_tabm`, or the workers cannot be had or break off.
    """

    def over_workers() -> "OverWorkers[Net]":
        from my_platform.learning.ray_train import fit_net_over_workers

        rows = _training_set(*_in_memory(labelled))
        return fit_net_over_workers(rows, recipe, device, engine.workers, 1, cluster)

    return fitted_by(
        engine,
        lambda: fit_tabm_on(labelled, recipe, device, devices=devices, checkpoints=checkpoints),
        over_workers,
    )


def _in_memory(labelled: LabelledRows) -> tuple[pl.DataFrame, ArrayLike, pl.Series]:
    """Features, labels and days."""
    rows = labelled.rows.select(*labelled.features, labelled.label, labelled.time).collect()
    return rows.select(labelled.features), rows[labelled.label].to_numpy(), rows[labelled.time].dt.date()


def predict_tabm(
    files: Mapping[str, bytes], features: pl.DataFrame, device: Literal["cpu", "cuda"]
) -> NDArray[np.float64]:
    """The probability of label 1 for each row, in [0, 1], computed in float32 on either device.

    Raises:
        Refused: the columns are not the net's features in the net's order.
    """
    from my_platform.learning.nets.compute import pick_device
    from my_platform.learning.nets.net import Net, predict

    net = Net.of_files(files)
    if tuple(features.columns) != net.transform.names:
        raise Refused(
            f"expected the net's features {list(net.transform.names)} in this order, found {features.columns}"
        )
    return predict(net, _matrix(features), replace(pick_device(device), precision="float32"))


def _training_set(features: pl.DataFrame, labels: ArrayLike, days: pl.Series) -> "TrainingSet":
    from my_platform.learning.nets.fit import TrainingSet

    target = np.asarray(labels).astype(np.float64)
    if target.shape != (features.height,) or not np.isin(target, (0.0, 1.0)).all():
        raise Refused(f"expected a label 0 or 1 in each of {features.height} rows; leave unlabelled rows out")
    return TrainingSet(
        _matrix(features),
        target.astype(np.bool_),
        days.cast(pl.Date).to_physical().to_numpy(),
        tuple(features.columns),
    )


def _matrix(features: pl.DataFrame) -> NDArray[np.float64]:
    """The features as one array, NaN where missing."""
    other = {name: str(kind) for name, kind in features.schema.items() if not _is_number(kind)}
    if other or not features.columns:
        raise Refused(f"expected numeric features, found {other or 'no column'}; encode or leave them out")
    return features.select(pl.all().cast(pl.Float64).fill_null(float("nan"))).to_numpy()


def _is_number(kind: pl.DataType) -> bool:
    return kind.is_numeric() or kind == pl.Boolean
