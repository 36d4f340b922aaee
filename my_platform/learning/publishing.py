"""Where models and reports are shown outside of the lake: MLflow, its registry, and the reports folder."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from my_platform.incremental.declare import Publication
from my_platform.learning.contender import recipe_of
from my_platform.learning.model_card import model_card, with_test
from my_platform.learning.registry import Candidate, Registry
from my_platform.learning.tracking import ModelRun, manifest_digest
from my_platform.storage.lake import file_in, json_in
from my_platform.storage.objects import replace_file


def model_publisher(
    registry: Registry, use: str, intended: str, training_set: str = "training_set"
) -> Callable[[Publication], Mapping[str, Any]]:
    """Logs a model to MLflow once, with what it was fitted on, and registers it as a candidate.

    Args:
        use: what the model is for.
        intended: the same in some sentences for its card, with what it is not for.
        training_set: the asset that it is fitted on.
    """

    def publish(publication: Publication) -> Mapping[str, Any]:
        import dagster as dg

        about = json_in(publication.table, "about.json")
        manifest: dict[str, Mapping[str, str]] = {}
        for partition, trained_on in publication.record["inputs"][training_set].items():
            made = publication.record_of(training_set, partition, trained_on) or {}
            manifest |= made.get("inputs", {})
        version = publication.record["data_version"]
        facts = {
            "training_set_digest": manifest_digest(manifest),
            "training_set_data_version": about["training_set"],
            "fingerprint": publication.record["fingerprint"],
            "code_version": publication.record["code_version"],
            **({"fitted_because": publication.reason} if publication.reason else {}),
        }
        run_id = registry.tracker.log_model(
            ModelRun(
                experiment=publication.asset,
                name=f"{publication.asset} {publication.partition}",
                version=version,
                parameters={**about["parameters"], **about["seeds"], "window_days": about["window_days"]},
                metrics={
                    f"training_{name}": number
                    for name, number in about["train"].items()
                    if isinstance(number, int)
                },
                tags={
                    "week": publication.partition,
                    **facts,
                    "dagster_run_id": publication.record.get("run_id", ""),
                },
                files=dict(publication.table.select("name", "content").rows()),
                documents={"training_set.json": manifest},
                history=_by_step(publication.record.get("notes", {}).get("history", [])),
            )
        )
        recipe = recipe_of(publication.code)
        candidate = Candidate(use, publication.asset, publication.partition, version, recipe)
        card = model_card(
            publication.asset,
            publication.partition,
            about,
            {"data version": version, **{name.replace("_", " "): value for name, value in facts.items()}},
            intended,
        )
        registered = registry.register(candidate, run_id, {**facts, "code": dict(publication.code)}, card)
        return {
            "mlflow_run": run_id,
            "mlflow_url": dg.MetadataValue.url(registry.tracker.page_of(publication.asset, run_id)),
            "registered": f"{use} {registered.number}",
            "training_set_digest": facts["training_set_digest"],
        }

    return publish


def _by_step(history: Sequence[Mapping[str, float]]) -> dict[int, dict[str, float]]:
    """The lines of a fit's history by what they count, from 1: an epoch, which counts from 0, or trees."""
    steps = [int(line["epoch"]) + 1 if "epoch" in line else int(line["round"]) for line in history]
    return {
        step: {name: value for name, value in line.items() if name not in ("epoch", "round")}
        for step, line in zip(steps, history, strict=True)
    }


def report_publisher(
    reports: Path, registry: Registry, use: str
) -> Callable[[Publication], Mapping[str, Any]]:
    """Writes the report of a week as a file, and its figures to the model's MLflow run, version and card."""

    def publish(publication: Publication) -> Mapping[str, Any]:
        import dagster as dg

        figures = json_in(publication.table, "metrics.json")
        model, _, _ = figures["model"].partition(" ")
        path = reports / use / model / f"{publication.partition}.html"
        replace_file(path, file_in(publication.table, "report.html"))
        registry.tracker.log_metrics(model, figures["model_version"], figures["metrics"])
        candidate = Candidate(use, model, publication.partition, figures["model_version"], "")
        registered = registry.find(candidate)
        if registered is not None:
            facts = {
                "metrics": {**figures["metrics"], "calibration": figures["calibration"]["value"]},
                "evaluation_data_version": publication.record["data_version"],
                "report": str(path),
            }
            registry.tell(registered, facts, with_test(registered.card, figures))
        return {"report": dg.MetadataValue.path(str(path)), "report_url": dg.MetadataValue.url(path.as_uri())}

    return publish
