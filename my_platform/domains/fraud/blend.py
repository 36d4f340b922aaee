"""The blend of the week's LightGBM model and net: a model like the others, as one ONNX file.

It is declared where `MY_PLATFORM_NETS` asks for nets. The partition is T0, the Wednesday on which the week begins that
the model serves.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from my_platform.domains.fraud.evaluation import FILES, evaluation_asset
from my_platform.domains.fraud.exports import files_of
from my_platform.domains.fraud.features import FEATURES
from my_platform.domains.fraud.models import predictions_asset, scores_of_week
from my_platform.errors import Refused
from my_platform.incremental.declare import Asset, Grain, Produced, same, table
from my_platform.learning.export.blend import blend_onnx
from my_platform.learning.export.parity import MODEL_FILE
from my_platform.learning.export.scoring import load_onnx
from my_platform.storage.lake import files_table

_SAME = ("features", "window_days", "training_set", "train", "replayed_rows")


def fraud_blend(
    trees: pl.LazyFrame,
    net: pl.LazyFrame,
    of_trees: pl.LazyFrame,
    of_net: pl.LazyFrame,
    training_set: pl.LazyFrame,
    partition: str,
    inputs: Mapping[str, Any],
) -> Produced:
    """The mean of the log-odds of both models, and what both were fitted on.

    Raises:
        Refused: they were not fitted on the same rows, or an export is not of the model that lies beside it.
    """
    models = {"trees": files_of(trees), "net": files_of(net)}
    about = {name: json.loads(files["about.json"]) for name, files in models.items()}
    exports = {"trees": files_of(of_trees), "net": files_of(of_net)}
    for name, files in exports.items():
        made_of = json.loads(files["about.json"])["model_version"]
        if made_of != inputs[name][partition]:
            raise Refused(
                f"the export was made of {made_of[:12]}, and the model is {inputs[name][partition][:12]}; refresh the export"
            )
    for name, said in about.items():
        if said["training_set"] != inputs["training_set"][partition]:
            raise Refused(
                f"the {name} were fitted on training set {said['training_set'][:12]}, and it is "
                f"{inputs['training_set'][partition][:12]} now; refresh them"
            )
    rows = training_set.select(pl.len()).collect().item()
    model = blend_onnx([files[MODEL_FILE] for files in exports.values()])
    told = {
        **{name: about["trees"][name] for name in _SAME},
        "of": {name: inputs[name][partition] for name in models},
        "parameters": {"blend": "mean of log-odds"},
        "seeds": {f"{name} {key}": seed for name in models for key, seed in about[name]["seeds"].items()},
    }
    return Produced(
        files_table({MODEL_FILE: model, "about.json": json.dumps(told, sort_keys=True, indent=1)}),
        metadata={
            "training_rows": rows,
            "training_frauds": told["train"]["frauds"],
            "model_bytes": len(model),
        },
    )


def load_blend(files: Mapping[str, bytes]) -> Callable[[pl.DataFrame], NDArray[np.float64]]:
    """The blend as a function from the features to the probability of fraud."""
    return load_onnx(files[MODEL_FILE], FEATURES)


def blend_predictions(
    model: pl.LazyFrame,
    training_set: pl.LazyFrame,
    transactions: pl.LazyFrame,
    spending: pl.LazyFrame,
    usual: pl.LazyFrame,
    risk: pl.LazyFrame,
) -> Produced:
    """The probability of fraud of every transaction of the week that the blend serves."""
    return scores_of_week(load_blend(files_of(model)), training_set, transactions, spending, usual, risk)


def blend_assets(*, publish_model: Any = None, publish_report: Any = None) -> list[Asset]:
    """The weekly assets of the blend."""
    model = table(
        "fraud_blend",
        reads={
            "trees": same("fraud_lightgbm"),
            "net": same("fraud_tabm"),
            "of_trees": same("fraud_lightgbm_onnx"),
            "of_net": same("fraud_tabm_onnx"),
            "training_set": same("training_set", columns=["TRANSACTION_ID"]),
        },
        group="models",
        kinds=("onnx", "mlflow"),
        columns=FILES,
        lineage={"name": (), "content": (("fraud_lightgbm", "content"), ("fraud_tabm", "content"))},
        publish=publish_model,
        grain=Grain.WEEK,
        owners=("team:fraud-models",),
    )(fraud_blend)
    scores = predictions_asset("blend_predictions", model.name, kinds=("onnx",), runtime={})(
        blend_predictions
    )
    figures = evaluation_asset("blend_evaluation", model.name, scores.name, publish=publish_report)
    return [model, scores, figures]
