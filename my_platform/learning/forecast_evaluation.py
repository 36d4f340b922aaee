"""The weekly evaluation of a forecast: its figures beside those of the naive one, and a report to read."""

import json
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import polars as pl

from my_platform.incremental.declare import Asset, Column, Produced, same, table
from my_platform.learning.bootstrap import Interval
from my_platform.learning.fitting import feature_importance, mean_contributions
from my_platform.learning.forecast import Forecast
from my_platform.learning.forecast_report import forecast_report
from my_platform.learning.regression import forecast_intervals
from my_platform.learning.slices import slices_of
from my_platform.storage.lake import file_in, files_table, json_in

FIGURES = ("mae", "rmse", "wape", "skill")
_ROWS_FOR_ATTRIBUTION = 500


def evaluation(
    predictions: pl.LazyFrame,
    test_set: pl.LazyFrame,
    model: pl.LazyFrame,
    partition: str,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, Any],
) -> Produced:
    """The week's figures with their intervals, by hour and by slice, and a report to read."""
    tested, bundle = test_set.collect(), model.collect()
    rows = scored_rows(tested, predictions.collect(), parameters)
    found = forecast_intervals(rows)
    about, version = json_in(bundle, "about.json"), inputs["model"][partition]
    text = file_in(bundle, "model.txt").decode()
    features = tested.select(parameters["features"])
    contributions = mean_contributions(
        text, features.gather_every(max(1, features.height // _ROWS_FOR_ATTRIBUTION))
    )
    days = tested[parameters["time"]].dt.date()
    first = date.fromisoformat(partition)
    figures = {
        "week": partition,
        "model": f"{parameters['model']} {version[:12]}",
        "model_version": version,
        "train": about["train"],
        "test": {"from": str(first), "to": str(days.max()), "rows": rows.height},
        "metrics": _values(found),
        "models": {parameters["model"]: _values(found), "naive": _naive(rows)},
        "intervals": {name: found[name].as_json() for name in FIGURES if name in found},
        "calibration": found["calibration"].as_json(),
        "by_hour": errors_by_hour(rows).to_dicts(),
        "slices": _slices(rows, parameters["slices"]),
        "seeds": about["seeds"],
        "chosen_on": partition in parameters["chosen_on"],
        "unit": parameters["unit"],
        "contributions": dict(contributions.rows()),
    }
    span = f"{first} … {first + timedelta(days=6)}"
    html = forecast_report(figures, found, about, span, contributions, feature_importance(text))
    return Produced(
        files_table({"metrics.json": json.dumps(figures, sort_keys=True, indent=1), "report.html": html}),
        metadata={
            **_values(found),
            "calibration": found["calibration"].value,
            "test_rows": rows.height,
        },
    )


def scored_rows(
    tested: pl.DataFrame, predictions: pl.DataFrame, parameters: Mapping[str, Any]
) -> pl.DataFrame:
    """The test rows as `learning.regression` takes them: hour, cluster, label, score, naive and the slices."""
    key, at = parameters["key"], parameters["time"]
    return (
        tested.join(predictions.select(key, "score"), on=key, how="inner")
        .sort(at, key)
        .select(
            *parameters["slices"],
            hour=pl.col(at).dt.hour(),
            cluster=parameters["cluster"],
            label=pl.col(parameters["value"]).cast(pl.Float64),
            score="score",
            naive=pl.col(parameters["naive"]).cast(pl.Float64),
        )
    )


def errors_by_hour(rows: pl.DataFrame) -> pl.DataFrame:
    """hour, rows, mae and naive (the naive forecast's mean absolute error, null where it has none)."""
    parts = rows.partition_by("hour", as_dict=True)
    found = [{"hour": hour, **_errors(part)} for (hour,), part in sorted(parts.items())]
    schema = {"hour": pl.Int64, "rows": pl.Int64, "mae": pl.Float64, "naive": pl.Float64}
    return pl.DataFrame(found, schema=schema)


def evaluation_asset(forecast: Forecast, publish: Any, week: Mapping[str, Any]) -> Asset:
    """The weekly evaluation of a forecast."""
    tested = (
        forecast.time,
        forecast.cluster,
        forecast.value,
        *forecast.slices,
        *forecast.columns,
    )
    return table(
        forecast.evaluation,
        reads={
            "predictions": same(forecast.predictions),
            "test_set": same(forecast.test_set),
            "model": same(forecast.model),
        },
        parameters={**forecast.plain, "model": forecast.model, "chosen_on": forecast.chosen_on},
        group="evaluation",
        kinds=("html",),
        columns={
            "name": Column(pl.String(), "name of a file"),
            "content": Column(pl.Binary(), "its bytes"),
        },
        lineage={
            "name": (),
            "content": (
                (forecast.predictions, "score"),
                (forecast.model, "content"),
                *((forecast.test_set, name) for name in dict.fromkeys(tested)),
            ),
        },
        publish=publish,
        **week,
    )(evaluation)


def _values(found: Mapping[str, Interval]) -> dict[str, float]:
    return {name: found[name].value for name in FIGURES if name in found}


def _naive(rows: pl.DataFrame) -> dict[str, float | None]:
    """The figures of the naive forecast, on the rows for which there is one."""
    there = rows.filter(pl.col("naive").is_not_null())
    if there.is_empty():
        return dict.fromkeys(("mae", "rmse", "wape"))
    errors = (there["label"] - there["naive"]).to_numpy()
    total, absolute = float(there["label"].to_numpy().sum()), float(abs(errors).sum())
    return {
        "mae": absolute / len(errors),
        "rmse": float((errors * errors).mean()) ** 0.5,
        "wape": absolute / total if total else None,
    }


def _errors(rows: pl.DataFrame) -> dict[str, Any]:
    return {
        "rows": rows.height,
        "mae": float((rows["label"] - rows["score"]).abs().to_numpy().mean()),
        "naive": _naive(rows)["mae"],
    }


def _slices(rows: pl.DataFrame, columns: list[str]) -> list[dict[str, Any]]:
    return [
        {"slice": column, "value": value, **_errors(part)}
        for column in columns
        for value, part in slices_of(rows, column)
    ]
