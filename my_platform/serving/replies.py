"""What is answered: predictions and reasons as JSON, which never holds what is not finite."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from my_platform.serving.log import Prediction
from my_platform.serving.model import Reason


class Answers:
    """Writes predictions as they are answered, whichever bundle made them.

    Args:
        key: the name of the rows' id.
        bundles: the folder of all bundles.
        sets: the feature sets, whose code versions are told.
    """

    def __init__(self, key: str, bundles: Path, sets: Sequence[str]) -> None:
        self._key = json.dumps(key)
        self._bundles = bundles
        self._sets = sets
        self._models: dict[str, str] = {}

    def answer(
        self, key: int | str, found: Prediction, reasons: Sequence[Reason] | None, *, blocked: bool = False
    ) -> str:
        """The JSON object of one row."""
        degraded = "null" if found.degraded is None else json.dumps(found.degraded)
        threshold = to_json(found.threshold, inf_nan_mode="null").decode()
        told = "" if reasons is None else f',"reasons":{_reasons(reasons)}'
        return (
            f'{{{self._key}:{key if isinstance(key, int) else json.dumps(key)},"probability":{found.probability!r},'
            f'"flagged":{"true" if found.flagged else "false"},"threshold":{threshold},'
            f'"blocked":{"true" if blocked else "false"},'
            f'"degraded":{degraded},{self._model(found.bundle)}{told}}}'
        )

    def _model(self, digest: str) -> str:
        """Model and versions of a bundle as they stand in each answer."""
        if digest not in self._models:
            told = told_of(
                json.loads((self._bundles / digest / "bundle.json").read_bytes()), digest, self._sets
            )
            self._models[digest] = to_json(told).decode()[1:-1]
        return self._models[digest]


def told_of(about: Mapping[str, Any], digest: str, sets: Sequence[str]) -> dict[str, Any]:
    """What is said of the model that answered, and of the code of its feature sets."""
    return {
        "model": {
            "asset": about["model"],
            "week": about["week"],
            "data_version": about["data_version"],
            "bundle": digest,
        },
        "feature_versions": {name: about["code"][name] for name in sets if name in about["code"]},
    }


def _reasons(reasons: Sequence[Reason]) -> str:
    return to_json([reason.__dict__ for reason in reasons], inf_nan_mode="null").decode()
