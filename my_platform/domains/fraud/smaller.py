"""Smaller and faster variants of the week's models, and what they lose and gain on its test set.

They are declared where `MY_PLATFORM_VARIANTS` asks for them, and are for people to judge: none of them contends. The
partition is T0, the Wednesday on which the week begins that the models serve.
"""

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from my_platform.domains.fraud.evaluation import FILES, scored_rows
from my_platform.domains.fraud.exports import files_of
from my_platform.domains.fraud.features import FEATURES
from my_platform.domains.fraud.parameters import CARDS_A_DAY
from my_platform.domains.fraud.smaller_report import smaller_report, with_timings
from my_platform.incremental.declare import Asset, Grain, Produced, Publication, same, table
from my_platform.learning.bootstrap import PairedWeek, difference_interval
from my_platform.learning.export.scoring import load_onnx
from my_platform.learning.export.timing import sum_of, time_rows
from my_platform.learning.export.variants import TrainingRows, score_variant, variants_of
from my_platform.learning.metrics import evaluate
from my_platform.storage.lake import file_in, files_table, json_in
from my_platform.storage.objects import replace_file

# The submodels of a pruned net are chosen on these: most of their frauds it was not fitted on.
_LATEST_DAYS = 7
# Rows that are kept beside the variants, to measure how long one takes.
_TIMED_ROWS = 100


def fraud_smaller(
    lightgbm: pl.LazyFrame, training_set: pl.LazyFrame, parameters: Mapping[str, Any], threads: int
) -> Produced:
    """Smaller and faster variants of the week's LightGBM model, as ONNX."""
    return _smaller(files_of(lightgbm), None, training_set, parameters["recipe"], threads)


def fraud_smaller_with_nets(
    lightgbm: pl.LazyFrame,
    tabm: pl.LazyFrame,
    training_set: pl.LazyFrame,
    parameters: Mapping[str, Any],
    threads: int,
) -> Produced:
    """Smaller and faster variants of the week's LightGBM model, of its net and of their blend, as ONNX."""
    return _smaller(files_of(lightgbm), files_of(tabm), training_set, parameters["recipe"], threads)


def fraud_smaller_evaluation(variants: pl.LazyFrame, test_set: pl.LazyFrame, partition: str) -> Produced:
    """What each variant loses on the week's test set against the model that it is made of."""
    files = files_of(variants)
    about = json.loads(files["about.json"])
    tested = test_set.sort("TX_DATETIME", "TRANSACTION_ID").collect()
    scored: dict[str, pl.DataFrame] = {}
    figures: dict[str, Any] = {}
    for name, model in about["models"].items():
        scores = score_variant(files, list(model["files"]), tested.select(FEATURES), model["rows_at_once"])
        predictions = tested.select("TRANSACTION_ID", score=pl.Series(scores))
        scored[name] = scored_rows(tested.lazy(), predictions.lazy()).collect()
        found = evaluate(scored[name], CARDS_A_DAY)
        figures[name] = {
            "average_precision": found.average_precision,
            "auc_roc": found.auc_roc,
            "card_precision": found.precision_at_k.mean,
            **{key: model[key] for key in ("teacher", "how", "bytes")},
        }
        if teacher := model["teacher"]:
            rows, theirs = scored[name], scored[teacher]["score"]
            gain = difference_interval([PairedWeek(rows["label"], rows["cluster"], rows["score"], theirs)])
            figures[name]["gain"] = gain.as_json()
    metrics = {
        "week": partition,
        "rows": tested.height,
        "frauds": int(tested["IS_FRAUD"].sum()),
        "models": figures,
    }
    html = smaller_report(partition, metrics)
    return Produced(
        files_table({"metrics.json": json.dumps(metrics, sort_keys=True, indent=1), "report.html": html}),
        metadata={f"{name}_average_precision": found["average_precision"] for name, found in figures.items()},
    )


def smaller_assets(*, recipe: Mapping[str, Any], threads: int, nets: bool, reports: Path) -> list[Asset]:
    """The weekly variants of the models that there are, and their evaluation."""
    shared: dict[str, Any] = {
        "grain": Grain.WEEK,
        "owners": ("team:fraud-models",),
        "columns": FILES,
    }
    columns = ("TX_DATETIME", *FEATURES, "IS_FRAUD")
    models = {"lightgbm": "fraud_lightgbm", **({"tabm": "fraud_tabm"} if nets else {})}
    variants = table(
        "fraud_smaller",
        reads={
            **{name: same(model) for name, model in models.items()},
            "training_set": same("training_set", columns=columns),
        },
        parameters={"recipe": dict(recipe)},
        runtime={"threads": threads},
        group="models",
        kinds=("onnx",),
        lineage={
            "name": (),
            "content": (
                *((model, "content") for model in models.values()),
                *(("training_set", name) for name in columns),
            ),
        },
        publish=_timer(reports),
        **shared,
    )(fraud_smaller_with_nets if nets else fraud_smaller)
    tested = ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", *FEATURES, "IS_FRAUD")
    judged = table(
        "fraud_smaller_evaluation",
        reads={"variants": same(variants.name), "test_set": same("test_set", columns=tested)},
        group="evaluation",
        kinds=("html",),
        lineage={
            "name": (),
            "content": ((variants.name, "content"), *(("test_set", name) for name in tested)),
        },
        publish=_page_writer(reports),
        **shared,
    )(fraud_smaller_evaluation)
    return [variants, judged]


def _smaller(
    trees: Mapping[str, bytes],
    net: Mapping[str, bytes] | None,
    training_set: pl.LazyFrame,
    recipe: Mapping[str, Any],
    threads: int,
) -> Produced:
    rows = training_set.select("TX_DATETIME", *FEATURES, "IS_FRAUD").collect()
    days = rows["TX_DATETIME"].dt.date()
    latest = rows.select(days > pl.lit(days.max()) - timedelta(days=_LATEST_DAYS)).to_series().to_numpy()
    features = rows.select(FEATURES)
    training = TrainingRows(features, rows["IS_FRAUD"].to_numpy(), latest)
    found = variants_of(trees["model.txt"].decode(), net, training, recipe, threads)
    timed = features.gather_every(max(1, rows.height // _TIMED_ROWS)).head(_TIMED_ROWS)
    about = {
        "features": list(FEATURES),
        "models": {variant.name: variant.as_json() for variant in found},
        "rows": timed.select(pl.all().cast(pl.Float64)).rows(),
    }
    files = {name: data for variant in found for name, data in variant.files.items()}
    return Produced(
        files_table({**files, "about.json": json.dumps(about, indent=1)}),
        metadata={f"{variant.name}_bytes": variant.as_json()["bytes"] for variant in found},
    )


def _timer(reports: Path) -> Callable[[Publication], Mapping[str, Any]]:
    """Measures once how long each variant takes for a row, beside the reports: a time is no part of a value."""

    def publish(publication: Publication) -> Mapping[str, Any]:
        path = reports / f"{publication.partition}.timings.json"
        version = publication.record["data_version"]
        known = json.loads(path.read_text()) if path.exists() else {}
        if known.get("version") != version:
            about = json_in(publication.table, "about.json")
            rows = np.array(about["rows"], dtype=np.float64)
            names = sorted({name for model in about["models"].values() for name in model["files"]})
            each = {
                name: time_rows(load_onnx(file_in(publication.table, name), about["features"]), rows)
                for name in names
            }
            timings = {
                name: sum_of([each[file] for file in model["files"]]).as_json()
                for name, model in about["models"].items()
            }
            known = {"version": version, "timings": timings}
            replace_file(path, json.dumps(known, indent=1).encode())
        return {f"{name}_us_a_row": round(found["alone_us"], 1) for name, found in known["timings"].items()}

    return publish


def _page_writer(reports: Path) -> Callable[[Publication], Mapping[str, Any]]:
    """Writes the report of a week as a file, with the times that were measured here."""

    def publish(publication: Publication) -> Mapping[str, Any]:
        import dagster as dg

        path = reports / f"{publication.partition}.html"
        timed = reports / f"{publication.partition}.timings.json"
        timings = json.loads(timed.read_text())["timings"] if timed.exists() else {}
        html = file_in(publication.table, "report.html").decode()
        replace_file(path, with_timings(html, timings).encode())
        return {"report": dg.MetadataValue.path(str(path)), "report_url": dg.MetadataValue.url(path.as_uri())}

    return publish
