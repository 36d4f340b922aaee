"""The week's models as ONNX, which is what serves, each held against the model it was made of.

The partition is T0, the Wednesday on which the week begins that the model serves.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import polars as pl

from my_platform.domains.fraud.evaluation import FILES
from my_platform.domains.fraud.features import FEATURES
from my_platform.domains.fraud.models import load_model
from my_platform.domains.fraud.parameters import CARDS_A_DAY
from my_platform.domains.fraud.tabm import load_net
from my_platform.incremental.declare import Asset, Grain, Produced, same, table
from my_platform.learning.export.net import tabm_onnx
from my_platform.learning.export.parity import PARITY_CHECK, Score, exported_model
from my_platform.learning.export.trees import lightgbm_onnx

# Of the training window, the days on which a model and its export are compared row by row.
COMPARED_DAYS = 3


def fraud_lightgbm_onnx(
    model: pl.LazyFrame, training_set: pl.LazyFrame, partition: str, inputs: Mapping[str, Any]
) -> Produced:
    """The boosted trees as ONNX, with the thresholds in double precision."""
    files = files_of(model)
    return _exported(
        lightgbm_onnx(files["model.txt"].decode()), load_model(files), training_set, partition, inputs
    )


def fraud_tabm_onnx(
    model: pl.LazyFrame, training_set: pl.LazyFrame, partition: str, inputs: Mapping[str, Any]
) -> Produced:
    """The net as ONNX, with its fitted input transform inside the graph."""
    files = files_of(model)
    return _exported(tabm_onnx(files), load_net(files), training_set, partition, inputs)


def export_asset(function: Callable[..., Produced], model: str, *, kinds: tuple[str, ...]) -> Asset:
    """Declares the weekly export of a model; its name is that of the function."""
    return table(
        function.__name__,
        reads={
            "model": same(model),
            "training_set": same("training_set", columns=["TRANSACTION_ID", "TX_DATETIME", *FEATURES]),
        },
        group="models",
        kinds=("onnx", *kinds),
        columns=FILES,
        lineage={
            "name": (),
            "content": ((model, "content"), *(("training_set", name) for name in FEATURES)),
        },
        own_checks=(PARITY_CHECK,),
        grain=Grain.WEEK,
        owners=("team:fraud-models",),
    )(function)


def files_of(model: pl.LazyFrame) -> dict[str, bytes]:
    """The files of a model by name."""
    return dict(model.collect().select("name", "content").rows())


def last_days(training_set: pl.LazyFrame) -> pl.DataFrame:
    """The rows of the last days of a training set, with `day` and `key` beside the features."""
    rows = training_set.select(
        *FEATURES, day=pl.col("TX_DATETIME").dt.date(), key=pl.col("TRANSACTION_ID")
    ).collect()
    return rows.filter(pl.col("day") > pl.col("day").max() - timedelta(days=COMPARED_DAYS))


def _exported(
    exported: bytes, native: Score, training_set: pl.LazyFrame, partition: str, inputs: Mapping[str, Any]
) -> Produced:
    facts = {"model_version": inputs["model"][partition]}
    return exported_model(exported, native, last_days(training_set), FEATURES, CARDS_A_DAY, facts)
