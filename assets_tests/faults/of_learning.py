"""Mistakes in what is learned from: made by code, or by ids that stand for two transactions.

A mistake in code is planted in this process, and a corrected day has the weeks computed again that read it.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import polars as pl

from assets_tests.faults.registry import fault
from assets_tests.faults.scene import FIRST, Scene
from assets_tests.faults.verdicts import Guarded
from my_platform.domains.fraud import models, protocol

FEATURE = "CUSTOMER_ID_NB_TX_7DAY_WINDOW"
# In the training window of the last weeks.
LEARNED = (FIRST + timedelta(days=15)).isoformat()
TRAINING = "training_set"


def in_training_rows(scene: Scene, change: Callable[[pl.LazyFrame], pl.LazyFrame]) -> None:
    """Have the rows of every training set changed."""
    rows = protocol.training_rows

    def changed(source: pl.LazyFrame, *more: Any) -> pl.LazyFrame:
        found = rows(source, *more)
        return change(found) if FEATURE in source.collect_schema() else found

    scene.plant(protocol, "training_rows", changed)
    corrected(scene, LEARNED)


def corrected(scene: Scene, day: str) -> None:
    scene.deliver(lambda t: t.with_columns(pl.col("TX_AMOUNT") + 0.01), scene.table("transactions", day))


@fault("label among the features", Guarded(TRAINING, "no_label_among_features", f"column {FEATURE}"))
def label(scene: Scene) -> None:
    in_training_rows(scene, lambda rows: rows.with_columns(pl.col("IS_FRAUD").cast(pl.Int64).alias(FEATURE)))


@fault("future feature", Guarded("training_set_replay", "saw the future", f"column {FEATURE}"))
def future(scene: Scene) -> None:
    whole_day = pl.len().over(pl.col("TX_DATETIME").dt.date()).cast(pl.Int64)
    in_training_rows(scene, lambda rows: rows.with_columns(whole_day.alias(FEATURE)))


@fault("labels that are known one day early", Guarded(TRAINING, "only_the_past", "column REPORTED_AT"))
def early(scene: Scene) -> None:
    in_training_rows(scene, lambda rows: rows.with_columns(pl.col("REPORTED_AT") + pl.duration(days=7)))


@fault("NaN label", Guarded(TRAINING, "labels_complete", "column IS_FRAUD"))
def no_label(scene: Scene) -> None:
    in_training_rows(scene, lambda rows: rows.with_columns(IS_FRAUD=pl.when(pl.col("IS_FRAUD")).then(True)))


@fault(
    "single-class week", Guarded(TRAINING, "labels_complete", "column IS_FRAUD: expected rows of both labels")
)
def single_class(scene: Scene) -> None:
    in_training_rows(scene, lambda rows: rows.filter(~pl.col("IS_FRAUD")))


@fault("infinite feature", Guarded(TRAINING, "finite_features", "column CUSTOMER_ID_AVG_AMOUNT_7DAY_WINDOW"))
def infinite(scene: Scene) -> None:
    mean = "CUSTOMER_ID_AVG_AMOUNT_7DAY_WINDOW"
    in_training_rows(
        scene, lambda rows: rows.with_columns((pl.col(mean) / (pl.int_range(pl.len()) % 9)).alias(mean))
    )


@fault("columns reordered at scoring", Guarded("predictions", "order", models.FEATURES[0]))
def reordered(scene: Scene) -> None:
    predict = models.predict_lightgbm

    def changed(text: str, features: pl.DataFrame, **more: Any) -> Any:
        return predict(text, features.select(reversed(features.columns)), **more)

    scene.plant(models, "predict_lightgbm", changed)
    corrected(scene, scene.day)


@fault("train and test overlap", Guarded("predictions", "unseen_rows", "column TRANSACTION_ID"))
def overlap(scene: Scene) -> None:
    ids = pl.read_parquet(scene.table("transactions", LEARNED))["TRANSACTION_ID"].head(3)
    scene.deliver(lambda t: t.with_columns(TRANSACTION_ID=pl.concat([ids, t["TRANSACTION_ID"][3:]])))
