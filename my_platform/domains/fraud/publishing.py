"""Where models and reports are shown outside of the lake: MLflow and the reports folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from my_platform.incremental.declare import Publication
from my_platform.learning.tracking import ModelRun, Tracker, manifest_digest
from my_platform.storage.lake import file_in, json_in
from my_platform.storage.objects import replace_file

EXPERIMENT = "fraud_lightgbm"


def model_publisher(tracker: Tracker) -> Callable[[Publication], Mapping[str, Any]]:
    """Logs a model to MLflow once, with what it was fitted on."""

    def publish(publication: Publication) -> Mapping[str, Any]:
        about = json_in(publication.table, "about.json")
        manifest: dict[str, Mapping[str, str]] = {}
        for partition, version in publication.record["inputs"]["training_set"].items():
            made = publication.record_of("training_set", partition, version) or {}
            manifest |= made.get("inputs", {})
        digest = manifest_digest(manifest)
        run_id = tracker.log_model(
            ModelRun(
                experiment=EXPERIMENT,
                name=f"{publication.asset} {publication.partition}",
                version=publication.record["data_version"],
                parameters={
                    **about["lightgbm"],
                    "rounds": about["rounds"],
                    "seed": about["seed"],
                    "window_days": about["window_days"],
                },
                metrics={
                    "training_rows": about["train"]["rows"],
                    "training_frauds": about["train"]["frauds"],
                },
                tags={
                    "week": publication.partition,
                    "training_set_digest": digest,
                    "training_set_data_version": about["training_set"],
                    "fingerprint": publication.record["fingerprint"],
                    "code_version": publication.record["code_version"],
                    "dagster_run_id": publication.record.get("run_id", ""),
                },
                files={
                    "model.txt": file_in(publication.table, "model.txt"),
                    "about.json": file_in(publication.table, "about.json"),
                },
                documents={"training_set.json": manifest},
            )
        )
        return {"mlflow_run": run_id, "training_set_digest": digest}

    return publish


def report_publisher(reports: Path, tracker: Tracker) -> Callable[[Publication], Mapping[str, Any]]:
    """Writes the report of a week as a file, and its metrics to the model's MLflow run."""

    def publish(publication: Publication) -> Mapping[str, Any]:
        import dagster as dg

        figures = json_in(publication.table, "metrics.json")
        path = reports / "fraud" / f"{publication.partition}.html"
        replace_file(path, file_in(publication.table, "report.html"))
        tracker.log_metrics(EXPERIMENT, figures["model_version"], figures["metrics"])
        return {"report": dg.MetadataValue.path(str(path)), "report_url": dg.MetadataValue.url(path.as_uri())}

    return publish
