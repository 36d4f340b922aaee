"""What the weekly assets of a forecast compute, as pure functions.

T0 is the Wednesday on which the week begins that the model serves. Days are UTC days, and intervals leave out their end:

- training rows: days [T0 − delay − window, T0 − delay), with a value that was known before T0;
- test rows: days [T0, T0 + 7), with a value that was known before T0 + 7 + delay.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from functools import reduce
from typing import Any

import polars as pl

from my_platform.errors import Refused
from my_platform.features.declaration import FeatureSet
from my_platform.features.replay import replay, sample, those_of
from my_platform.incremental.checks import CheckResult, Judgement
from my_platform.incremental.declare import Produced
from my_platform.learning.fitting import fit_regression, predict_lightgbm
from my_platform.learning.leaks import Roles, judge_scores, judge_training_set
from my_platform.storage.lake import file_in, files_table

REPLAYED_ROWS = 100
REPLAY_CHECK = "no_future_in_features"


def training_set(
    labels: pl.LazyFrame, partition: str, parameters: Mapping[str, Any], **features: pl.LazyFrame
) -> pl.LazyFrame:
    """Features of the training days joined with the values that were known before T0, guarded against leaks."""
    t0 = date.fromisoformat(partition)
    key, at = parameters["key"], parameters["time"]
    return (
        _joined(features, key, at)
        .filter(_on_days(at, *_training_days(t0, parameters)))
        .join(_known_before(labels, t0, parameters), on=key, how="inner")
        .select(key, at, *parameters["features"], parameters["value"], parameters["known_at"])
        .sort(at, key)
    )


def judge_rows(rows: pl.LazyFrame, partition: str, parameters: Mapping[str, Any]) -> Judgement:
    """How all rows of a training set answer ``TRAINING_CHECKS``, and how many days they are of.

    Raises:
        Refused: the answer to a check is no.
    """
    t0 = date.fromisoformat(partition)
    _, end = _training_days(t0, parameters)
    roles = Roles(
        key=parameters["key"],
        time=parameters["time"],
        known_at=parameters["known_at"],
        label=parameters["value"],
        features=tuple(parameters["features"]),
        number=True,
    )
    checks = judge_training_set(
        rows, roles, rows_before=datetime.combine(end, time()), labels_before=datetime.combine(t0, time())
    )
    days = rows.select(pl.col(roles.time).dt.date().unique()).collect(engine="streaming").to_series()
    return Judgement(checks, {"days": len(days), "first_day": str(days.min())})


def training_set_replay(
    training_set: pl.LazyFrame,
    partition: str,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, Any],
    **tables: pl.LazyFrame,
) -> Produced:
    """How many rows of the training set, and of how many features, came out the same without the future."""
    sets: Sequence[FeatureSet] = parameters["declarations"]
    key, known_at = parameters["key"], parameters["known_at"]
    keys = sample(training_set.select(key).collect(engine="streaming"), key, REPLAYED_ROWS)
    rows = those_of(training_set, keys[key])
    found = []
    for declared in sets:
        sampled = those_of(tables[declared.rows], rows[declared.order])
        of_entities = those_of(tables[declared.events], sampled[declared.entity])
        told = not declared.own_events and known_at in of_entities.columns
        found += (
            replay(declared, rows, of_entities)
            if declared.own_events
            else replay(declared, rows, sampled, of_entities, known_at=known_at if told else None)
        )
    features = sum(len(declared.columns) for declared in sets)
    numbers = {"rows": rows.height, "features": features, "features_that_differ": len(found)}
    results = [CheckResult(REPLAY_CHECK, not found, numbers, str(found[0]) if found else "")]
    if found:
        raise Refused(f"{len(found)} features saw the future: {found[0]}. Correct the feature", results)
    replayed = {
        "training_set": [inputs["training_set"][partition]],
        "rows": [rows.height],
        "features": [features],
    }
    return Produced(pl.DataFrame(replayed), metadata=numbers, checks=results)


def fitted(
    training_set: pl.LazyFrame,
    replay: pl.LazyFrame,
    partition: str,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, Any],
    threads: int,
) -> Produced:
    """Boosted trees fitted on the week's training set, as LightGBM's own text."""
    replayed = replay.collect()
    if replayed["training_set"].item() != inputs["training_set"][partition]:
        raise Refused("the training set is another one than was replayed without the future last")
    rows = training_set.collect()
    lightgbm, rounds, seed = (parameters[name] for name in ("lightgbm", "rounds", "seed"))
    features = parameters["features"]
    model = fit_regression(
        rows.select(features), rows[parameters["value"]].to_numpy(), lightgbm, rounds, seed, threads
    )
    days = rows[parameters["time"]].dt.date()
    about = {
        "parameters": {**lightgbm, "rounds": rounds},
        "seeds": {"lightgbm": seed},
        "features": features,
        "window_days": parameters["window_days"],
        "training_set": inputs["training_set"][partition],
        "train": {"from": str(days.min()), "to": str(days.max()), "rows": rows.height},
        "replayed_rows": replayed["rows"].item(),
    }
    return Produced(
        files_table({"model.txt": model, "about.json": json.dumps(about, sort_keys=True, indent=1)}),
        metadata={"training_rows": rows.height, "trees": rounds, "model_bytes": len(model)},
    )


def predictions(
    model: pl.LazyFrame,
    training_set: pl.LazyFrame,
    rows: pl.LazyFrame,
    parameters: Mapping[str, Any],
    threads: int,
    **features: pl.LazyFrame,
) -> Produced:
    """The forecast of every row of the week that the model serves."""
    key, at = parameters["key"], parameters["time"]
    text = file_in(model.collect(), "model.txt").decode()
    found = _joined(features, key, at).sort(at, key).collect()
    scores = predict_lightgbm(text, found.select(parameters["features"]), num_threads=threads)
    scored = found.select(key, at).with_columns(score=pl.Series(scores))
    checks = judge_scores(
        scored,
        training_set.select(key).collect().to_series(),
        rows.select(pl.len()).collect().item(),
        key=key,
        score="score",
        number=True,
    )
    return Produced(scored, checks=checks)


def test_set(
    rows: pl.LazyFrame,
    labels: pl.LazyFrame,
    partition: str,
    parameters: Mapping[str, Any],
    **features: pl.LazyFrame,
) -> pl.LazyFrame:
    """The week's rows whose value is known, with their features and slices."""
    end = date.fromisoformat(partition) + timedelta(days=7 + parameters["delay_days"])
    key, at, value = (parameters[name] for name in ("key", "time", "value"))
    about = dict.fromkeys([key, parameters["cluster"], *parameters["slices"]])
    known = _known_before(labels, end, parameters).select(key, value)
    columns = dict.fromkeys([key, at, *about, *parameters["features"], value])
    return (
        _joined(features, key, at)
        .join(rows.select(*about), on=key, how="inner", suffix=" of the row")
        .join(known, on=key, how="inner")
        .select(*columns)
        .sort(at, key)
    )


def _joined(features: Mapping[str, pl.LazyFrame], key: str, at: str) -> pl.LazyFrame:
    """The features of the rows that have all of them; of each table but the first, only what is its own."""

    def beside(left: pl.LazyFrame, right: pl.LazyFrame) -> pl.LazyFrame:
        return left.join(right.drop(at), on=key, how="inner")

    return reduce(beside, features.values())


def _known_before(labels: pl.LazyFrame, day: date, parameters: Mapping[str, Any]) -> pl.LazyFrame:
    """The value of each row as it was known when `day` began; the latest one counts."""
    key, value, known_at = (parameters[name] for name in ("key", "value", "known_at"))
    if parameters["known_by_delay"]:
        after = pl.duration(days=parameters["delay_days"])
        labels = labels.select(key, value, (pl.col(parameters["time"]) + after).alias(known_at))
    return (
        labels.filter(pl.col(known_at) < datetime.combine(day, time()))
        .group_by(key)
        .agg(pl.col(value, known_at).sort_by(known_at, value).last())
    )


def _training_days(t0: date, parameters: Mapping[str, Any]) -> tuple[date, date]:
    """The first day of the training rows, and the day after their last."""
    end = t0 - timedelta(days=parameters["delay_days"])
    return end - timedelta(days=parameters["window_days"]), end


def _on_days(at: str, first: date, end: date) -> pl.Expr:
    return (pl.col(at).dt.date() >= first) & (pl.col(at).dt.date() < end)
