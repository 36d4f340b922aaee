"""Whether an exported model says what the model it was made of says, and its weekly value if so."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from my_platform.errors import Refused
from my_platform.incremental.checks import Check, CheckResult
from my_platform.incremental.declare import Produced
from my_platform.learning.decisions import operating_threshold
from my_platform.learning.export.scoring import load_onnx
from my_platform.storage.lake import files_table

MODEL_FILE = "model.onnx"
TOLERANCE = 1e-4
PARITY_CHECK = Check(
    "onnx_parity",
    f"No probability of the ONNX model is further than {TOLERANCE:g} from the one of the model it was made of.",
    metadata={"tolerance": TOLERANCE},
)
# Rows of the sample in which each feature in turn is missing.
_ROWS_WITHOUT = 20

Score = Callable[[pl.DataFrame], NDArray[np.float64]]


@dataclass(frozen=True)
class Parity:
    """A model and its export on the same rows.

    Attributes:
        threshold: the score from which on a row is looked at.
        decisions_flipped: rows on different sides of it.
    """

    rows: int
    largest_difference: float
    threshold: float
    decisions_flipped: int

    @property
    def holds(self) -> bool:
        return self.largest_difference <= TOLERANCE

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def compare_scores(native: NDArray[np.float64], exported: NDArray[np.float64], threshold: float) -> Parity:
    """Both models' scores of the same rows side by side; a score that is no number differs by infinity."""
    difference = np.abs(native - exported)
    largest = float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))
    flipped = int(((native >= threshold) != (exported >= threshold)).sum())
    return Parity(len(native), largest, threshold, flipped)


def exported_model(
    model: bytes,
    native: Score,
    sample: pl.DataFrame,
    features: Sequence[str],
    looked_at: int,
    facts: Mapping[str, Any],
) -> Produced:
    """The files of an exported model that agrees with its own: `model.onnx`, and what is known of it.

    Args:
        native: scores of the model it was made of.
        sample: whole days of rows that both score, with `day` and a `key` beside the features.
        looked_at: rows with the highest scores that are looked at each day; sets the operating threshold.
        facts: what else is told of it.

    Raises:
        Refused: a probability is further than the tolerance from the model's own.
    """
    exported = load_onnx(model, features)
    rows = sample.select(features)
    scores = native(rows)
    days = sample.select("day", cluster="key").with_columns(score=pl.Series(scores))
    parity = compare_scores(scores, exported(rows), operating_threshold(days, looked_at))
    incomplete = _with_gaps(rows)
    missing = compare_scores(native(incomplete), exported(incomplete), parity.threshold)
    worst = max(parity, missing, key=lambda found: found.largest_difference)
    numbers = {**parity.as_json(), "largest_difference": worst.largest_difference}
    said = "" if worst.holds else f"a probability differs by {worst.largest_difference:.3g}"
    checks = [CheckResult(PARITY_CHECK.name, worst.holds, numbers, said)]
    if not worst.holds:
        raise Refused(
            f"the ONNX model differs from its own by {worst.largest_difference:.3g}, allowed are {TOLERANCE:g}; it is "
            "not to be served. Look for an operation that the export rounds or leaves out",
            checks,
        )
    about = {
        "features": list(features),
        "sha256": hashlib.sha256(model).hexdigest(),
        "opsets": _opsets(model),
        "parity": {**numbers, "rows_with_a_missing_feature": missing.rows, "tolerance": TOLERANCE},
        **facts,
    }
    return Produced(
        files_table({MODEL_FILE: model, "about.json": json.dumps(about, sort_keys=True, indent=1)}),
        metadata={"model_bytes": len(model), **numbers},
        checks=checks,
    )


def _with_gaps(rows: pl.DataFrame) -> pl.DataFrame:
    """Some of the rows, once for each feature, with that one missing."""
    some = rows.gather_every(max(1, rows.height // _ROWS_WITHOUT)).head(_ROWS_WITHOUT)
    return pl.concat(some.with_columns(pl.lit(None, kind).alias(name)) for name, kind in some.schema.items())


def _opsets(model: bytes) -> dict[str, int]:
    import onnx

    return {found.domain or "ai.onnx": found.version for found in onnx.load_from_string(model).opset_import}
