"""What a champion says of rows with features, in bulk: the model that serves, and the threshold that it serves with."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from my_platform.errors import Refused
from my_platform.incremental.declare import (
    EXPECTED,
    SERVED,
    Asset,
    Batch,
    Column,
    ColumnLineage,
    Grain,
    Produced,
    Read,
)
from my_platform.learning.bundle import Bundle, bundle_called
from my_platform.learning.export.parity import MODEL_FILE
from my_platform.learning.export.scoring import OnnxModel, load_onnx

SCORES: Mapping[str, Column] = {
    "PROBABILITY": Column(pl.Float64(), "probability, as the champion of the day says"),
    "FLAGGED": Column(pl.Boolean(), "whether it reaches the operating threshold; null where there is none"),
    "THRESHOLD": Column(pl.Float64(), "the operating threshold of the champion's bundle"),
    "MODEL": Column(pl.String(), "the model that is champion"),
    "WEEK": Column(pl.String(), "the week of that model"),
    "BUNDLE": Column(pl.String(), "digest of its bundle"),
}
_CHAMPION = "champion"


def champion_model(bundle: Bundle) -> OnnxModel:
    """The model that a bundle serves.

    Raises:
        Refused: the bundle holds no ONNX model.
    """
    if MODEL_FILE not in bundle.files:
        raise Refused(
            f"the bundle {bundle.digest[:12]} holds no {MODEL_FILE}; promote a model that is exported"
        )
    return load_onnx(bundle.files[MODEL_FILE], bundle.about["features"])


def threshold_of(bundle: Bundle) -> float | None:
    """The operating threshold that a bundle serves with; None where no week had told one."""
    found = bundle.about["operating_threshold"]["score"]
    return None if found is None else float(found)


def scored(bundle: Bundle, rows: pl.DataFrame, kept: list[str]) -> pl.DataFrame:
    """Some columns of rows with features, and ``SCORES`` beside them, in the order of the rows."""
    model = champion_model(bundle)
    probability = model(rows.select(bundle.about["features"])) if rows.height else np.zeros(0)
    threshold = threshold_of(bundle)
    about = bundle.about
    return rows.select(kept).with_columns(
        PROBABILITY=pl.Series(probability, dtype=pl.Float64),
        FLAGGED=pl.lit(None, pl.Boolean) if threshold is None else pl.Series(probability >= threshold),
        THRESHOLD=pl.lit(threshold, pl.Float64),
        MODEL=pl.lit(about["model"]),
        WEEK=pl.lit(about["week"]),
        BUNDLE=pl.lit(bundle.digest),
    )


def scored_asset(
    name: str,
    use: str,
    bundles: Path,
    *,
    features: Mapping[str, Read],
    joined: Callable[..., pl.LazyFrame],
    kept: Mapping[str, Column],
    lineage: ColumnLineage,
    **catalogue: Any,
) -> Asset:
    """The rows of a day, each with what the champion of that day says of it.

    The champion is an input of the day: the name of its bundle, as the promotion ledger tells it. A promotion counts
    from its own day on, so that it makes no day stale that was scored before it.

    Args:
        bundles: the folder of bundles; what a bundle holds is fixed by its name.
        features: what is read of the day by the parameters of ``joined``.
        joined: makes one frame of those.
        kept: the columns of that frame that stay.
    """

    def compute(batch: Batch) -> Iterator[tuple[str, Produced | Exception]]:
        for key in batch.keys:
            try:
                (digest,) = batch.versions(_CHAMPION, key).values()
                frames = {each: next(iter(batch.inputs(each, key).values())).lazy() for each in features}
                bundle = bundle_called(bundles, digest)
                found = scored(bundle, joined(**frames).collect(), list(kept))
                flagged = int(found["FLAGGED"].sum())
                yield key, Produced(found, metadata={"bundle": bundle.digest, "flagged": flagged})
            except EXPECTED as error:
                yield key, error

    return Asset(
        name=name,
        grain=Grain.DAY,
        reads={_CHAMPION: Read(f"{SERVED}{use}"), **features},
        compute=compute,
        code=(scored, joined),
        columns={**kept, **SCORES},
        lineage=lineage,
        **{"group": "serving", "kinds": ("onnx", "polars"), **catalogue},
    )
