"""The weekly assets of a forecast: which partitions they read, and the functions that make them."""

from collections.abc import Mapping
from typing import Any, Literal

import polars as pl

from my_platform.incremental.bucketed import Apart
from my_platform.incremental.checks import Check
from my_platform.incremental.declare import Asset, Column, Grain, Read, same, table
from my_platform.learning.fitting import TRAINING_POOL
from my_platform.learning.forecast import KNOWN_AT, Forecast
from my_platform.learning.forecast_evaluation import evaluation_asset
from my_platform.learning.forecast_steps import (
    REPLAY_CHECK,
    REPLAYED_ROWS,
    fitted,
    judge_rows,
    predictions,
    test_set,
    training_set,
    training_set_replay,
)
from my_platform.learning.leaks import SCORING_CHECKS, TRAINING_CHECKS

FILES = {"name": Column(pl.String(), "name of a file"), "content": Column(pl.Binary(), "its bytes")}
SHORTEST_WINDOW_DAYS = 7


def forecast_assets(
    forecast: Forecast,
    *,
    threads: int,
    gaps: Literal["wait", "pass"] = "wait",
    publish_model: Any = None,
    publish_report: Any = None,
) -> list[Asset]:
    """The weekly assets of a forecast, from the training set to the evaluation."""
    week: dict[str, Any] = {"grain": Grain.WEEK, "owners": forecast.owners}
    first, last_day = -forecast.delay_days - forecast.window_days, -forecast.delay_days - 1
    told_by = forecast.known_at or forecast.time
    known_at = forecast.known_at or KNOWN_AT
    label_columns = tuple(dict.fromkeys([forecast.key, forecast.value, told_by]))
    columns = {
        forecast.key: forecast.rows.columns[forecast.key],
        forecast.time: forecast.rows.columns[forecast.time],
    }
    features = {
        name: asset.columns[name] for declared, asset in forecast.features for name in declared.columns
    }
    value = forecast.labels.columns[forecast.value]
    of_features = {
        name: ((asset.name, name),) for declared, asset in forecast.features for name in declared.columns
    }
    of_rows = {name: ((forecast.rows.name, name),) for name in columns}
    of_value = {forecast.value: ((forecast.labels.name, forecast.value),)}

    def windows(first: int, last: int, gaps: Any, at_least: int) -> dict[str, Read]:
        return {asset.name: Read(asset.name, first, last, gaps, at_least) for _, asset in forecast.features}

    training = table(
        forecast.training_set,
        reads={
            "labels": Read(forecast.labels.name, first, -1, gaps, 1, label_columns),
            **windows(first, last_day, gaps, SHORTEST_WINDOW_DAYS),
        },
        parameters=forecast.plain,
        apart=Apart(
            dict.fromkeys(("labels", *(asset.name for _, asset in forecast.features)), forecast.key),
            (forecast.time, forecast.key),
        ),
        judge=judge_rows,
        group="training",
        columns={
            **columns,
            **features,
            forecast.value: value,
            known_at: Column(pl.Datetime("us"), "when it became known, UTC"),
        },
        own_checks=TRAINING_CHECKS,
        lineage={
            **of_rows,
            **of_features,
            **of_value,
            known_at: ((forecast.labels.name, told_by),),
        },
        **week,
    )(training_set)
    replayed = _replay_asset(forecast, first, last_day, week)
    model = table(
        forecast.model,
        reads={"training_set": same(training.name), "replay": same(replayed.name)},
        parameters={
            **forecast.plain,
            "lightgbm": dict(forecast.lightgbm or {}),
            "rounds": forecast.rounds,
            "seed": forecast.seed,
        },
        runtime={"threads": threads},
        group="models",
        kinds=("lightgbm", "mlflow"),
        pool=TRAINING_POOL,
        columns=FILES,
        lineage={
            "name": (),
            "content": tuple((training.name, name) for name in (*forecast.columns, forecast.value)),
        },
        publish=publish_model,
        **week,
    )(fitted)
    scores = table(
        forecast.predictions,
        reads={
            "model": same(model.name),
            "training_set": same(training.name, columns=[forecast.key]),
            "rows": Read(forecast.rows.name, 0, 6, "wait", 7, (forecast.key,)),
            **windows(0, 6, "wait", 7),
        },
        parameters=forecast.plain,
        runtime={"threads": threads},
        group="evaluation",
        kinds=("lightgbm",),
        columns={**columns, "score": Column(pl.Float64(), f"the forecast, {forecast.unit}")},
        own_checks=SCORING_CHECKS,
        lineage={
            **of_rows,
            "score": ((model.name, "content"), *(each for (each,) in of_features.values())),
        },
        **week,
    )(predictions)
    about = dict.fromkeys([forecast.key, forecast.cluster, *forecast.slices])
    tested = table(
        forecast.test_set,
        reads={
            "rows": Read(forecast.rows.name, 0, 6, "wait", 7, tuple(about)),
            "labels": Read(forecast.labels.name, 0, 6 + forecast.delay_days, "wait", 7, label_columns),
            **windows(0, 6, "wait", 7),
        },
        parameters=forecast.plain,
        group="evaluation",
        columns={
            **columns,
            **{name: forecast.rows.columns[name] for name in about},
            **features,
            forecast.value: value,
        },
        lineage={
            **of_rows,
            **{name: ((forecast.rows.name, name),) for name in about},
            **of_features,
            **of_value,
        },
        **week,
    )(test_set)
    return [training, replayed, model, scores, tested, evaluation_asset(forecast, publish_report, week)]


def _replay_asset(forecast: Forecast, first: int, last_day: int, week: Mapping[str, Any]) -> Asset:
    """How many rows of the training set came out the same without the future."""
    sets = [declared for declared, _ in forecast.features]
    reach = min(declared.reads().first for declared in sets)
    tables = dict.fromkeys(name for declared in sets for name in (declared.rows, declared.events))

    return table(
        f"{forecast.training_set}_replay",
        reads={
            "training_set": same(forecast.training_set, scanned=True),
            **{name: Read(name, first + reach, last_day, "pass", 0, scanned=True) for name in tables},
        },
        parameters={"key": forecast.key, "known_at": forecast.plain["known_at"], "declarations": sets},
        group="training",
        description=f"The features of {REPLAYED_ROWS} training rows, computed again without what was not known at their time.",
        columns={
            "training_set": Column(pl.String(), "data version of the training set that was replayed"),
            "rows": Column(pl.Int64(), "training rows whose features were computed again"),
            "features": Column(pl.Int64(), "features that came out the same"),
        },
        own_checks=(
            Check(
                REPLAY_CHECK,
                f"The features of {REPLAYED_ROWS} rows are the same without what was not known at their time.",
                about=forecast.training_set,
            ),
        ),
        **week,
    )(training_set_replay)
