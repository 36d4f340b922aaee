"""The figures of the shipped models on the week that the Handbook reports, with intervals, seeds and kinds of fraud.

`MY_PLATFORM_HANDBOOK=FOLDER make bench BENCHMARKS=models ARGS=--write`; needs the Handbook's daily files.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks._report import (
    HANDBOOK,
    in_child,
    machine,
    platform_command,
    publish,
    run,
    table,
    temporary_folder,
)

COMMAND = "make bench BENCHMARKS=models ARGS=--write"
_DAILY = "group:raw or group:validated or group:features"
_MODELS = {
    "fraud_lightgbm": ("fraud_lightgbm", "fraud_lightgbm_onnx", "predictions", "evaluation"),
    "fraud_tabm": ("fraud_tabm", "fraud_tabm_onnx", "tabm_predictions", "tabm_evaluation"),
    "fraud_blend": ("fraud_blend", "blend_predictions", "blend_evaluation"),
}
_FIGURES = ("auc_roc", "average_precision", "precision_at_100")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    options = parser.parse_args()
    if not HANDBOOK.is_dir():
        sys.exit(f"models: the Handbook's daily files are not at {HANDBOOK}; set MY_PLATFORM_HANDBOOK")
    load = os.getloadavg()
    with temporary_folder() as folder:
        home = folder / "home"
        run(
            platform_command("import-handbook", str(HANDBOOK), "--scenarios"),
            {"MY_PLATFORM_HOME": str(home)},
        )
        found, cost = in_child("benchmarks.models:judged", str(home))
    from my_platform.domains.fraud.parameters import SEED
    from my_platform.domains.fraud.report import PUBLISHED_FOR_WEEK

    rows = [
        [name, *(_told(found[name], figure) for figure in _FIGURES), _seeds(found[name])] for name in _MODELS
    ]
    rows += [
        [
            f"{line.model} (published)",
            f"{line.auc_roc:.3f}",
            f"{line.average_precision:.3f}",
            f"{line.precision_at_k:.3f}",
            "",
        ]
        for line in PUBLISHED_FOR_WEEK
    ]
    facts = found["fraud_lightgbm"]
    publish(
        "models",
        "The models on the published week",
        COMMAND,
        [
            f"Test week {facts['week']}: {facts['test']['rows']:,} rows with {facts['test']['frauds']} frauds, the Handbook's; "
            f"fitted on {facts['train']['rows']:,} rows from {facts['train']['from']} to {facts['train']['to']} with parameters "
            f"chosen on earlier test weeks only ([results.md](results.md) says which, and how often this week was looked at). "
            f"95 % intervals by a bootstrap over cards; seed {SEED}:",
            "",
            *table(["", "AUC ROC", "average precision", "CP@100", "seeds"], rows),
            "",
            "By kind of fraud (the Handbook's scenarios), each told from all genuine rows; average precision depends on how "
            "many frauds there are, so that rows compare across models and not with each other:",
            "",
            *table(["scenario", "frauds", *_MODELS], _by_scenario(found)),
            "",
            f"Features, fits and reports took {cost.wall_s:.0f} s.",
            "",
            machine(load),
        ],
        write=options.write,
    )


def judged(home: str) -> dict[str, Any]:
    """Build what the published week needs in a home with the Handbook's days; `metrics.json` by model."""
    from my_platform.domains.fraud.report import PUBLISHED_WEEK
    from my_platform.operations.session import opened
    from my_platform.settings import Settings
    from my_platform.storage.lake import json_in

    week: date = PUBLISHED_WEEK
    weekly = [
        "training_set",
        "training_set_replay",
        "test_set",
        *(name for names in _MODELS.values() for name in names),
    ]
    with opened(Settings(home=Path(home), nets="budget", promote="never")) as session:
        assert session.refresh(select=_DAILY).problems == []
        select = " or ".join(f'key:"{name}"' for name in weekly)
        assert session.refresh(select=select, first=week, through=week).problems == []
        versions, lake, key = session.versions(), session.workspace.lake, week.isoformat()
        return {
            model: json_in(lake.read(names[-1], key, versions[names[-1]][key]), "metrics.json")
            for model, names in _MODELS.items()
        }


def _told(found: Mapping[str, Any], figure: str) -> str:
    interval = found["intervals"][figure]
    return f"{interval['value']:.4f} ({interval['low']:.3f} to {interval['high']:.3f})"


def _seeds(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {seed}" for name, seed in found["seeds"].items())


def _by_scenario(found: Mapping[str, Any]) -> list[list[str]]:
    parts = {
        model: {each["value"]: each for each in found[model]["slices"] if each["slice"] == "FRAUD_SCENARIO"}
        for model in _MODELS
    }
    return [
        [
            value,
            str(each["positives"]),
            *(f"{parts[model][value]['average_precision']['value']:.3f}" for model in _MODELS),
        ]
        for value, each in parts["fraud_lightgbm"].items()
    ]


if __name__ == "__main__":
    main()
