"""LightGBM for a yes-or-no label or a number: fit to a text, predict from a text, gain by feature.

A model is its LightGBM text and nothing else. LightGBM reads a damaged text without checking it and may
end the process: check the digest of a stored text before it comes here.
"""

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from my_platform.errors import Refused
from my_platform.learning.engines import Cluster, Engine, Fitted, OverWorkers, fitted_by
from my_platform.learning.watching import Watch

# One model at a time is fitted, as each takes all the threads that it is given.
TRAINING_POOL = "training"
_SEEDS = (
    "seed",
    "bagging_seed",
    "feature_fraction_seed",
    "extra_seed",
    "objective_seed",
    "drop_seed",
    "data_random_seed",
)
_FIXED = {"objective": "binary", "deterministic": True, "force_col_wise": True, "verbosity": -1}


def fit_lightgbm(
    features: pl.DataFrame,
    labels: ArrayLike,
    parameters: Mapping[str, object],
    rounds: int,
    seed: int,
    num_threads: int,
    watch: Watch | None = None,
) -> str:
    """Fit boosted trees and return LightGBM's text of the model.

    `features` has one numeric column a feature (nulls are missing values), `labels` one 0 or 1 a row.
    `parameters` are LightGBM's, but for the objective, the seeds, the threads and what fixes the result,
    which are set here. `watch` looks on, and changes nothing in the text. The same arguments give the same text,
    whatever `num_threads` is.

    Raises Refused where a label is missing or neither 0 nor 1, where one class has no row, where a feature
    is not numeric, where a parameter is given that is set here, or where `watch` sees the fit diverge.
    """
    _refuse_fixed(parameters)
    target = _checked_labels(labels, features.height)
    return _fit(features, target, {**parameters, **_FIXED}, rounds, seed, num_threads, watch)


def fit_lightgbm_by(
    engine: Engine,
    cluster: Cluster,
    features: pl.DataFrame,
    labels: ArrayLike,
    parameters: Mapping[str, object],
    rounds: int,
    seed: int,
    num_threads: int,
    watch: Watch | None = None,
) -> Fitted[str]:
    """The same by an engine; over workers other trees come out than in one process, and the same ones each time.

    A fit over workers is watched when it has ended.

    Raises Refused as `fit_lightgbm` does, and PlatformError where the workers cannot be had or break off.
    """

    def over_workers() -> OverWorkers[str]:
        from my_platform.learning.ray_train import fit_trees

        _refuse_fixed(parameters)
        target = _checked_labels(labels, features.height)
        settings = {**parameters, **_FIXED, **dict.fromkeys(_SEEDS, seed)}
        matrix = _matrix(features)
        found = fit_trees(
            matrix, target, features.columns, settings, rounds, engine.workers, num_threads, cluster
        )
        if watch is not None:
            watch.look_back(found.model, _matrix(watch.rows), rounds, num_threads, settings)
        return found

    return fitted_by(
        engine,
        lambda: fit_lightgbm(features, labels, parameters, rounds, seed, num_threads, watch),
        over_workers,
    )


def fit_regression(
    features: pl.DataFrame,
    values: ArrayLike,
    parameters: Mapping[str, object],
    rounds: int,
    seed: int,
    num_threads: int,
) -> str:
    """Fit boosted trees to a number by its squared error; the rest is as of `fit_lightgbm`.

    Raises Refused where a value is missing or not finite, and as `fit_lightgbm` does.
    """
    _refuse_fixed(parameters)
    target = np.asarray(values, dtype=np.float64)
    if target.shape != (features.height,) or not np.isfinite(target).all() or not features.height:
        raise Refused(
            f"expected a finite number for each of {features.height} rows of features, found {target.shape}; leave out "
            "rows whose value is not known"
        )
    settings = {**parameters, **_FIXED, "objective": "regression"}
    return _fit(features, target.astype(np.float32), settings, rounds, seed, num_threads)


def distil_lightgbm(
    features: pl.DataFrame,
    probability: NDArray[np.float64],
    parameters: Mapping[str, object],
    rounds: int,
    seed: int,
    num_threads: int,
) -> str:
    """Fit boosted trees to what another model says of the rows, and return LightGBM's text of them.

    Each row counts as much as a 1 and as much as a 0 as the teacher's probability says (Hinton, Vinyals, Dean:
    Distilling the Knowledge in a Neural Network, 2015). The same arguments give the same text.

    Raises Refused where a probability is missing or outside of [0, 1], or a feature is not numeric.
    """
    target = np.asarray(probability, dtype=np.float64)
    if target.shape != (features.height,) or not ((target >= 0) & (target <= 1)).all():
        raise Refused(f"expected a probability in [0, 1] for each of {features.height} rows")
    settings = {**parameters, **_FIXED, "objective": "cross_entropy"}
    return _fit(features, target.astype(np.float32), settings, rounds, seed, num_threads)


def first_trees(model_text: str, trees: int) -> str:
    """The model as it was after so many of its trees."""
    import lightgbm as lgb

    text: str = lgb.Booster(model_str=model_text).model_to_string(num_iteration=trees)
    return text


def load_lightgbm(model_text: str, num_threads: int = 1) -> Callable[[pl.DataFrame], NDArray[np.float64]]:
    """The model as a function from features to the probability of label 1 for each row, in [0, 1].

    It raises Refused where the columns are not the model's features in the model's order: LightGBM itself
    takes columns by position.
    """
    import lightgbm as lgb

    booster = lgb.Booster(model_str=model_text)
    expected = booster.feature_name()

    def predict(features: pl.DataFrame) -> NDArray[np.float64]:
        if features.columns != expected:
            raise Refused(_difference(expected, features.columns))
        if features.is_empty():
            return np.zeros(0, dtype=np.float64)
        return np.asarray(booster.predict(_matrix(features), num_threads=num_threads), dtype=np.float64)

    return predict


def predict_lightgbm(model_text: str, features: pl.DataFrame, num_threads: int = 1) -> NDArray[np.float64]:
    """The probability of label 1 for each row, in [0, 1]; raises Refused as `load_lightgbm` says."""
    return load_lightgbm(model_text, num_threads)(features)


def mean_contributions(model_text: str, features: pl.DataFrame, num_threads: int = 1) -> pl.DataFrame:
    """feature and contribution: by how much it moves the log-odds of a row, up or down, in the mean over rows.

    Contributions are SHAP values as LightGBM computes them for its own trees (Lundberg, Erion, Lee:
    Consistent Individualized Feature Attribution for Tree Ensembles, 2018). The largest first.

    Raises Refused where the columns are not the model's features in the model's order, or there is no row.
    """
    import lightgbm as lgb

    booster = lgb.Booster(model_str=model_text)
    expected = booster.feature_name()
    if features.columns != expected:
        raise Refused(_difference(expected, features.columns))
    if features.is_empty():
        raise Refused("contributions are means over rows, found none; check that the test week has labels")
    found = booster.predict(_matrix(features), num_threads=num_threads, pred_contrib=True)
    mean = np.abs(np.asarray(found, dtype=np.float64)[:, :-1]).mean(axis=0)
    return pl.DataFrame({"feature": expected, "contribution": mean}).sort(
        "contribution", "feature", descending=[True, False]
    )


def feature_importance(model_text: str) -> pl.DataFrame:
    """feature, gain (summed over its splits) and splits, the highest gain first."""
    import lightgbm as lgb

    booster = lgb.Booster(model_str=model_text)
    importance = pl.DataFrame(
        {
            "feature": booster.feature_name(),
            "gain": booster.feature_importance("gain").astype(np.float64),
            "splits": booster.feature_importance("split").astype(np.int64),
        }
    )
    return importance.sort("gain", "feature", descending=[True, False])


def _refuse_fixed(parameters: Mapping[str, object]) -> None:
    taken = sorted({*_FIXED, *_SEEDS, "num_threads", "num_iterations"} & set(parameters))
    if taken:
        raise Refused(f"LightGBM parameters {taken} are set by the platform, not by a model; leave them out")


def _fit(
    features: pl.DataFrame,
    target: NDArray[np.float32],
    parameters: Mapping[str, object],
    rounds: int,
    seed: int,
    num_threads: int,
    watch: Watch | None = None,
) -> str:
    import lightgbm as lgb

    settings = {**parameters, **dict.fromkeys(_SEEDS, seed), "num_threads": num_threads}
    # LightGBM adds the binning parameters it used to the dictionary it is given, hence the copy.
    data = lgb.Dataset(_matrix(features), label=target, feature_name=features.columns, params=dict(settings))
    looks = [watch.callback(_matrix(watch.rows), rounds, num_threads)] if watch else []
    booster = lgb.train(settings, data, num_boost_round=rounds, callbacks=looks)
    text: str = booster.model_to_string()
    return text.replace(f"[num_threads: {num_threads}]", "[num_threads: 0]", 1)


def _matrix(features: pl.DataFrame) -> NDArray[np.float32] | NDArray[np.float64]:
    """The features as one array, column by column as LightGBM takes it: float32 where all columns are, else float64."""
    other = [name for name, kind in features.schema.items() if not (kind.is_numeric() or kind == pl.Boolean)]
    if other or not features.columns:
        found = {name: str(features.schema[name]) for name in other} or "no column"
        raise Refused(f"expected numeric features, found {found}; encode or leave them out")
    single = all(kind == pl.Float32 for kind in features.schema.values())
    columns = features.select(pl.all().cast(pl.Float32 if single else pl.Float64))
    return columns.to_numpy()


def _checked_labels(labels: ArrayLike, rows: int) -> NDArray[np.float32]:
    """Labels as 0.0 and 1.0, one for each row and both there."""
    target = np.asarray(labels).astype(np.float64)
    if target.shape != (rows,):
        raise Refused(f"expected one label for each of {rows} rows of features, found {target.shape}")
    missing = int(np.isnan(target).sum())
    if missing:
        raise Refused(
            f"expected a label in each row, found {missing} missing in {rows}; leave those rows out"
        )
    classes, counts = np.unique(target, return_counts=True)
    found = {float(value): int(count) for value, count in zip(classes, counts, strict=True)}
    if not set(found) <= {0.0, 1.0}:
        raise Refused(f"expected the labels 0 and 1, found (label: rows) {found}")
    if len(found) < 2:
        raise Refused(
            f"expected rows of both classes to fit on, found (label: rows) {found}; "
            f"take a longer training window or wait for labels"
        )
    return target.astype(np.float32)


def _difference(expected: list[str], found: list[str]) -> str:
    """How the columns given differ from the features of the model."""
    missing, more = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if not missing and not more:
        return f"expected the features in the model's order {expected}, found them as {found}; reorder them"
    return f"expected the {len(expected)} features of the model, found {missing} missing and {more} too many"
