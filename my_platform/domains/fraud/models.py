"""Weekly assets of card fraud: LightGBM, its predictions, and what all models share.

The partition is T0, the Wednesday on which the week begins that the model serves.
"""

import json
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from my_platform.domains.fraud.evaluation import (
    FILES,
    evaluation_asset,
    lightgbm_attribution,
    test_set_asset,
)
from my_platform.domains.fraud.features import FEATURES, OF_FEATURES, joined
from my_platform.domains.fraud.training import days_without_rows, training_assets
from my_platform.errors import Refused
from my_platform.incremental.declare import Asset, Column, Grain, Produced, Read, same, table
from my_platform.learning.engines import ON_THIS_MACHINE, Cluster, engine_for
from my_platform.learning.fitting import TRAINING_POOL, fit_lightgbm_by, load_lightgbm, predict_lightgbm
from my_platform.learning.leaks import (
    SCORING_CHECKS,
    judge_scores,
)
from my_platform.learning.watching import Watch
from my_platform.storage.lake import file_in, files_table


def fraud_lightgbm(
    training_set: pl.LazyFrame,
    replay: pl.LazyFrame,
    partition: str,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, Any],
    threads: int,
    cluster: Cluster | None = None,
) -> Produced:
    """Boosted trees fitted on the week's training set, as LightGBM's own text."""
    rows = rows_to_fit(training_set, replay, partition, inputs).collect()
    engine = engine_for(rows.height, parameters)
    features, labels = rows.select(FEATURES), rows["IS_FRAUD"].to_numpy()
    watch = Watch(features, labels, parameters["seed"])
    fitted = fit_lightgbm_by(
        engine,
        cluster or ON_THIS_MACHINE,
        features,
        labels,
        parameters["lightgbm"],
        parameters["rounds"],
        parameters["seed"],
        threads,
        watch,
    )
    model = fitted.model
    about = {
        "lightgbm": parameters["lightgbm"],
        "rounds": parameters["rounds"],
        "seed": parameters["seed"],
        "parameters": {**parameters["lightgbm"], "rounds": parameters["rounds"]},
        "seeds": {"lightgbm": parameters["seed"]},
        **({"workers": engine.workers} if engine.workers > 1 else {}),
        **fitted_on(rows, replay, partition, parameters["window_days"], inputs),
    }
    return Produced(
        files_table({"model.txt": model, "about.json": json.dumps(about, sort_keys=True, indent=1)}),
        metadata={
            "training_rows": rows.height,
            "training_frauds": about["train"]["frauds"],
            "trees": parameters["rounds"],
            **{name: found for name, found in watch.history[-1].items() if name != "round"},
            "model_bytes": len(model),
            **fitted.metadata,
        },
        notes={"history": watch.history},
    )


def rows_to_fit(
    training_set: pl.LazyFrame, replay: pl.LazyFrame, partition: str, inputs: Mapping[str, Any]
) -> pl.LazyFrame:
    """The rows of a week's training set.

    Raises:
        Refused: it is not the one that came out the same without the future.
    """
    if replay.collect()["training_set"].item() != inputs["training_set"][partition]:
        raise Refused(
            "the training set is another one than was replayed without the future last; see training_set_replay"
        )
    return training_set


def fitted_on(
    rows: pl.DataFrame,
    replay: pl.LazyFrame,
    partition: str,
    window_days: int,
    inputs: Mapping[str, Any],
) -> dict[str, Any]:
    """What a model says of the rows that it was fitted on; of them TX_DATETIME and IS_FRAUD are looked at."""
    times = rows["TX_DATETIME"].dt.date()
    holes = days_without_rows(rows["TX_DATETIME"], date.fromisoformat(partition), window_days)
    return {
        "features": list(FEATURES),
        "window_days": window_days,
        "training_set": inputs["training_set"][partition],
        "train": {
            "from": str(times.min()),
            "to": str(times.max()),
            "rows": rows.height,
            "frauds": int(rows["IS_FRAUD"].sum()),
            **({"days_without_rows": holes} if holes else {}),
        },
        "replayed_rows": replay.collect()["rows"].item(),
    }


def load_model(files: Mapping[str, bytes]) -> Callable[[pl.DataFrame], NDArray[np.float64]]:
    """The fitted trees as a function from the features to the probability of fraud."""
    return load_lightgbm(files["model.txt"].decode())


def predictions(
    model: pl.LazyFrame,
    training_set: pl.LazyFrame,
    transactions: pl.LazyFrame,
    spending: pl.LazyFrame,
    usual: pl.LazyFrame,
    risk: pl.LazyFrame,
    threads: int,
) -> Produced:
    """The probability of fraud of every transaction of the week that the model serves."""
    text = file_in(model.collect(), "model.txt").decode()
    return scores_of_week(
        lambda features: predict_lightgbm(text, features, num_threads=threads),
        training_set,
        transactions,
        spending,
        usual,
        risk,
    )


def scores_of_week(
    score: Callable[[pl.DataFrame], NDArray[np.float64]],
    training_set: pl.LazyFrame,
    transactions: pl.LazyFrame,
    spending: pl.LazyFrame,
    usual: pl.LazyFrame,
    risk: pl.LazyFrame,
) -> Produced:
    """The scores of a week's transactions by a function of their features, guarded."""
    of_week = transactions.select("TRANSACTION_ID", "CUSTOMER_ID").collect()
    rows = (
        of_week.lazy()
        .join(joined(spending, usual, risk).drop("CUSTOMER_ID"), on="TRANSACTION_ID", how="inner")
        .sort("TX_DATETIME", "TRANSACTION_ID")
        .collect()
    )
    scores = score(rows.select(FEATURES))
    found = rows.select("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID").with_columns(score=pl.Series(scores))
    known = training_set.select("TRANSACTION_ID").collect().to_series()
    checks = judge_scores(found, known, of_week.height, key="TRANSACTION_ID", score="score")
    return Produced(found, checks=checks)


def weekly_assets(
    *,
    features: Mapping[str, Column],
    window_days: int,
    lightgbm: Mapping[str, Any],
    rounds: int,
    seed: int,
    threads: int,
    gaps: Literal["wait", "pass"] = "wait",
    chosen_on: tuple[str, ...] = (),
    engine: Mapping[str, Any] | None = None,
    cluster: Cluster | None = None,
    publish_model: Any = None,
    publish_report: Any = None,
) -> list[Asset]:
    """The weekly assets for one choice of training window and parameters, over features with these columns.

    Args:
        chosen_on: the weeks whose tests the parameters were chosen by.
        engine: the parameters that decide on the engine of a fit.
        cluster: where fits over workers run.
    """
    week: dict[str, Any] = {"grain": Grain.WEEK, "owners": ("team:fraud-models",)}
    model = table(
        "fraud_lightgbm",
        reads={"training_set": same("training_set"), "replay": same("training_set_replay")},
        parameters={
            "lightgbm": dict(lightgbm),
            "rounds": rounds,
            "seed": seed,
            "window_days": window_days,
            **(engine or {}),
        },
        runtime={"threads": threads, "cluster": cluster},
        group="models",
        pool=TRAINING_POOL,
        kinds=("lightgbm", "mlflow"),
        columns=FILES,
        lineage={
            "name": (),
            "content": tuple(("training_set", name) for name in (*FEATURES, "IS_FRAUD")),
        },
        publish=publish_model,
        **week,
    )(fraud_lightgbm)
    scores = predictions_asset("predictions", model.name, kinds=("lightgbm",), runtime={"threads": threads})(
        predictions
    )
    tested = test_set_asset(features)
    figures = evaluation_asset(
        "evaluation",
        model.name,
        scores.name,
        attribute=lightgbm_attribution,
        chosen_on=chosen_on,
        publish=publish_report,
    )
    return [
        *training_assets(features=features, window_days=window_days, gaps=gaps),
        model,
        scores,
        tested,
        figures,
    ]


def predictions_asset(
    name: str, model: str, *, kinds: tuple[str, ...], runtime: Mapping[str, Any]
) -> Callable[[Callable[..., Produced]], Asset]:
    """Declares the weekly scores of a model."""
    return table(
        name,
        reads={
            "model": same(model),
            "training_set": same("training_set", columns=["TRANSACTION_ID"]),
            "transactions": Read(
                "validated/transactions", 0, 6, "wait", 7, ("TRANSACTION_ID", "CUSTOMER_ID")
            ),
            "spending": Read("customer_spending", 0, 6, "wait", 7),
            "usual": Read("usual_spending", 0, 6, "wait", 7),
            "risk": Read("terminal_risk", 0, 6, "wait", 7),
        },
        runtime=runtime,
        group="evaluation",
        kinds=kinds,
        columns={
            "TRANSACTION_ID": Column(pl.Int64(), "the transaction"),
            "TX_DATETIME": Column(pl.Datetime("us"), "when it happened, UTC"),
            "CUSTOMER_ID": Column(pl.Int64(), "the card that paid"),
            "score": Column(pl.Float64(), "probability of fraud"),
        },
        own_checks=SCORING_CHECKS,
        lineage={
            "TRANSACTION_ID": (("validated/transactions", "TRANSACTION_ID"),),
            "TX_DATETIME": (("customer_spending", "TX_DATETIME"),),
            "CUSTOMER_ID": (("validated/transactions", "CUSTOMER_ID"),),
            "score": ((model, "content"), *OF_FEATURES.values()),
        },
        grain=Grain.WEEK,
        owners=("team:fraud-models",),
    )
