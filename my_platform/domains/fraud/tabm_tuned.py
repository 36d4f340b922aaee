"""The week's net as it comes out when it goes on from last week's, instead of being fitted from the beginning.

Declared where both `MY_PLATFORM_NETS` and `MY_PLATFORM_VARIANTS` ask for it. It does not contend: it tells whether going
on is as good for less.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from my_platform.domains.fraud.exports import files_of
from my_platform.domains.fraud.features import FEATURES
from my_platform.domains.fraud.models import fitted_on
from my_platform.domains.fraud.tabm import Device, labelled_rows
from my_platform.incremental.declare import Asset, Grain, Produced, Publication, Read, same, table
from my_platform.learning.net_fitting import fit_tabm_on
from my_platform.storage.lake import files_table


def fraud_tabm_tuned(
    before: pl.LazyFrame,
    fresh: pl.LazyFrame,
    training_set: pl.LazyFrame,
    replay: pl.LazyFrame,
    partition: str,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, Any],
    device: Device,
    checkpoints: Path,
) -> Produced:
    """Last week's net fitted further on this week's training set; its files where it is as good as a fresh fit for less."""
    labelled, tuning = labelled_rows(training_set, replay, partition, inputs), parameters["tuning"]
    recipe = parameters["recipe"]
    # A pruned net goes on with the submodels that it kept.
    recipe = {
        **recipe,
        "architecture": {**recipe["architecture"], "members": recipe["training"]["keep"]},
        "training": {
            **recipe["training"],
            "epochs": tuning["epochs"],
            "learning_rate": tuning["learning_rate"],
        },
    }
    net = fit_tabm_on(labelled, recipe, device, checkpoints=checkpoints, start=files_of(before))
    rows = labelled.rows.select("TX_DATETIME", "IS_FRAUD").collect()
    fits = {"tuned": net.about, "fresh": json.loads(files_of(fresh)["net.json"])["about"]}
    losses = {name: validation_loss(found) for name, found in fits.items()}
    work = {name: submodel_rows(found) for name, found in fits.items()}
    kept = as_good_for_less(fits["tuned"], fits["fresh"], tuning["worse_by"])
    about = {
        "recipe": recipe,
        "started_from": inputs["before"],
        "compared_with": inputs["fresh"],
        "validation_loss": losses,
        "submodel_rows": work,
        "kept": kept,
        **fitted_on(rows, replay, partition, parameters["window_days"], inputs),
    }
    files = net.files() if kept else {}
    return Produced(
        files_table({**files, "about.json": json.dumps(about, sort_keys=True, indent=1)}),
        metadata={
            "kept": kept,
            "validation_loss": losses["tuned"],
            "validation_loss_of_the_fresh_fit": losses["fresh"],
            "submodel_rows": work["tuned"],
            "submodel_rows_of_the_fresh_fit": work["fresh"],
            "best_epoch": net.about["best_epoch"],
        },
    )


def tuned_asset(fresh: Asset, *, tuning: Mapping[str, Any], device: Device, checkpoints: Path) -> Asset:
    """Declares the weekly net that goes on from the one of the week before, beside the one that is fitted afresh.

    Args:
        fresh: the asset of the nets fitted from the beginning; it goes on with the same recipe.
        tuning: `epochs`, `learning_rate` and `worse_by`.
    """
    return table(
        "fraud_tabm_tuned",
        reads={
            "before": Read(fresh.name, -7, -7, "wait", 1),
            "fresh": same(fresh.name),
            "training_set": same("training_set", scanned=True),
            "replay": same("training_set_replay"),
        },
        parameters={**fresh.parameters, "tuning": dict(tuning)},
        runtime={"device": device, "checkpoints": checkpoints},
        pool=fresh.pool,
        gpus=min(fresh.gpus, 1),
        group="models",
        kinds=("torch",),
        columns=fresh.columns,
        lineage={
            "name": (),
            "content": (
                (fresh.name, "content"),
                *(("training_set", name) for name in (*FEATURES, "IS_FRAUD")),
            ),
        },
        publish=_seconds_of_both(fresh.name),
        grain=Grain.WEEK,
        owners=fresh.owners,
    )(fraud_tabm_tuned)


def _seconds_of_both(fresh: str) -> Any:
    """Tells what each fit took: a time is no part of a value."""

    def publish(publication: Publication) -> Mapping[str, Any]:
        week = publication.partition
        version = publication.record["inputs"][fresh][week]
        other = publication.record_of(fresh, week, version) or {}
        found = {"seconds_of_the_fit": publication.record, "seconds_of_the_fresh_fit": other}
        return {name: round(record["seconds"], 1) for name, record in found.items() if "seconds" in record}

    return publish


def as_good_for_less(tuned: Mapping[str, Any], fresh: Mapping[str, Any], worse_by: float) -> bool:
    """Whether going on gave a net that is as good as the one fitted afresh, and took less.

    What a fit takes is counted in its own steps, not in seconds, so that the same nets are kept on every machine.

    Args:
        tuned, fresh: what each net says of its fit.
        worse_by: the share by which the loss may be higher.
    """
    as_good = validation_loss(tuned) <= validation_loss(fresh) * (1 + worse_by)
    return as_good and submodel_rows(tuned) < submodel_rows(fresh)


def validation_loss(about: Mapping[str, Any]) -> float:
    """The log loss on the last days of the training window, which no net was fitted on."""
    return float(about["history"][about["best_epoch"]]["stopping_loss"])


def submodel_rows(about: Mapping[str, Any]) -> int:
    """What a fit took: its steps × the rows of a batch × the submodels that each of them went through."""
    return int(about["steps"] * about["training"]["batch_rows"] * about["architecture"]["members"])
