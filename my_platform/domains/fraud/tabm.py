"""The net beside LightGBM: weekly TabM models, their scores and their evaluation, of the same shape.

They are declared where `MY_PLATFORM_NETS` asks for them.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from my_platform.domains.fraud.evaluation import FILES, evaluation_asset
from my_platform.domains.fraud.features import FEATURES
from my_platform.domains.fraud.models import (
    fitted_on,
    predictions_asset,
    rows_to_fit,
    scores_of_week,
)
from my_platform.incremental.declare import Asset, Grain, Produced, same, table
from my_platform.learning.engines import ON_THIS_MACHINE, Cluster, engine_for
from my_platform.learning.fitting import TRAINING_POOL
from my_platform.learning.net_fitting import fit_tabm_by, predict_tabm
from my_platform.learning.shards import LabelledRows
from my_platform.storage.lake import files_table

GPU_POOL = "gpu"
Device = Literal["cpu", "cuda"]


def fraud_tabm(
    training_set: pl.LazyFrame,
    replay: pl.LazyFrame,
    partition: str,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, Any],
    device: Device,
    devices: int,
    checkpoints: Path,
    cluster: Cluster | None = None,
) -> Produced:
    """A TabM net fitted on the week's training set: weights as safetensors, all else as JSON."""
    labelled, recipe = labelled_rows(training_set, replay, partition, inputs), parameters["recipe"]
    engine = engine_for(labelled.height, parameters)
    fitted = fit_tabm_by(
        engine, cluster or ON_THIS_MACHINE, labelled, recipe, device, devices=devices, checkpoints=checkpoints
    )
    net = fitted.model
    rows = labelled.rows.select("TX_DATETIME", "IS_FRAUD").collect()
    files, best = net.files(), net.about["history"][net.about["best_epoch"]]
    about = {
        "recipe": recipe,
        "parameters": {**recipe["architecture"], **recipe["training"]},
        "seeds": {"torch": recipe["seed"]},
        "device": net.about["device"],
        "precision": net.about["precision"],
        **({"workers": engine.workers} if engine.workers > 1 else {}),
        **fitted_on(rows, replay, partition, parameters["window_days"], inputs),
    }
    return Produced(
        files_table({**files, "about.json": json.dumps(about, sort_keys=True, indent=1)}),
        metadata={
            "training_rows": rows.height,
            "training_frauds": about["train"]["frauds"],
            "device": net.about["device"],
            "best_epoch": net.about["best_epoch"],
            **{name: round(best[name], 5) for name in ("stopping_loss", "stopping_average_precision")},
            "shards": net.about.get("shards", 0),
            "model_bytes": sum(map(len, files.values())),
            **fitted.metadata,
        },
        notes={"history": net.about["history"]},
    )


def labelled_rows(
    training_set: pl.LazyFrame, replay: pl.LazyFrame, partition: str, inputs: Mapping[str, Any]
) -> LabelledRows:
    """The rows that a week's net is fitted on; raises Refused as `rows_to_fit` does."""
    rows = rows_to_fit(training_set, replay, partition, inputs)
    return LabelledRows(rows, inputs["training_set"][partition], FEATURES, "IS_FRAUD", "TX_DATETIME")


def load_net(files: Mapping[str, bytes]) -> Callable[[pl.DataFrame], NDArray[np.float64]]:
    """The fitted net as a function from the features to the probability of fraud, on the processor."""
    return lambda features: predict_tabm(files, features, "cpu")


def tabm_predictions(
    model: pl.LazyFrame,
    training_set: pl.LazyFrame,
    transactions: pl.LazyFrame,
    spending: pl.LazyFrame,
    usual: pl.LazyFrame,
    risk: pl.LazyFrame,
) -> Produced:
    """The probability of fraud of every transaction of the week that the net serves."""
    files = dict(model.collect().select("name", "content").rows())
    return scores_of_week(load_net(files), training_set, transactions, spending, usual, risk)


def tabm_assets(
    *,
    recipe: Mapping[str, Any],
    window_days: int,
    device: Device,
    devices: int,
    checkpoints: Path,
    engine: Mapping[str, Any] | None = None,
    cluster: Cluster | None = None,
    publish_model: Any = None,
    publish_report: Any = None,
) -> list[Asset]:
    """The weekly assets of the net. On which device it was fitted does not make another value of it."""
    model = table(
        "fraud_tabm",
        reads={"training_set": same("training_set", scanned=True), "replay": same("training_set_replay")},
        parameters={"recipe": dict(recipe), "window_days": window_days, **(engine or {})},
        runtime={"device": device, "devices": devices, "checkpoints": checkpoints, "cluster": cluster},
        pool=GPU_POOL if device == "cuda" else TRAINING_POOL,
        gpus=devices if device == "cuda" else 0,
        group="models",
        kinds=("torch", "mlflow"),
        columns=FILES,
        lineage={
            "name": (),
            "content": tuple(("training_set", name) for name in (*FEATURES, "IS_FRAUD")),
        },
        publish=publish_model,
        grain=Grain.WEEK,
        owners=("team:fraud-models",),
    )(fraud_tabm)
    scores = predictions_asset("tabm_predictions", model.name, kinds=("torch",), runtime={})(tabm_predictions)
    figures = evaluation_asset("tabm_evaluation", model.name, scores.name, publish=publish_report)
    return [model, scores, figures]
