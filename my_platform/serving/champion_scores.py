"""What a champion says of rows with features, in bulk: the model that serves, and the threshold that it serves with."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from my_platform.errors import Refused
from my_platform.incremental.bucketed import (
    Apart,
    Made,
    has_to_be_apart,
    in_buckets,
    require_whole,
    whole,
)
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
    or_each_alone,
)
from my_platform.incremental.parts import Parts, write_part
from my_platform.learning.bundle import Bundle, bundle_called
from my_platform.learning.export.parity import MODEL_FILE
from my_platform.learning.export.scoring import ROWS_AT_ONCE, OnnxModel, load_onnx

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
    apart: Apart,
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
        apart: how its rows are told apart where a day does not fit into memory, and put in order in any case.
    """

    names = list(kept)

    def rows_of(_key: str, tables: Mapping[str, pl.DataFrame]) -> Made:
        rows = joined(**{read: table.lazy() for read, table in tables.items()})
        return rows.sort(apart.sort_by).collect(), None, {}

    def bundle_of(batch: Batch, key: str) -> Bundle:
        (digest,) = batch.versions(_CHAMPION, key).values()
        return bundle_called(bundles, digest)

    def together(batch: Batch, keys: Sequence[str]) -> Iterator[tuple[str, Produced | Exception]]:
        columns = {name: read.columns for name, read in features.items()}
        for key, rows in in_buckets(rows_of, batch, keys, apart, columns):
            with batch.memory.folder() as folder:
                yield key, _produced(bundle_of(batch, key), rows.value, names, folder, **rows.metadata)

    def compute(batch: Batch) -> Iterator[tuple[str, Produced | Exception]]:
        if has_to_be_apart(batch, apart, list(features), batch.keys):
            yield from or_each_alone(partial(together, batch), batch.keys)
            return
        for key in batch.keys:
            try:
                require_whole(batch, list(features), key)
                rows, _, _ = rows_of(key, {read: whole(batch, read, key) for read in features})
                yield key, _produced(bundle_of(batch, key), rows, names, None)
            except EXPECTED as error:
                yield key, error

    return Asset(
        name=name,
        grain=Grain.DAY,
        reads={_CHAMPION: Read(f"{SERVED}{use}"), **features},
        parameters={"sort_by": apart.sort_by},
        compute=compute,
        code=(scored, joined, in_buckets),
        columns={**kept, **SCORES},
        lineage=lineage,
        **{"group": "serving", "kinds": ("onnx", "polars"), **catalogue},
    )


def _produced(
    bundle: Bundle, rows: pl.DataFrame | Parts, kept: list[str], folder: Path | None, **about: Any
) -> Produced:
    """The scores of the rows of a day, of rows in files in files of a folder."""
    about = {"bundle": bundle.digest, **about}
    if isinstance(rows, pl.DataFrame):
        found = scored(bundle, rows, kept)
        return Produced(found, metadata={**about, "flagged": int(found["FLAGGED"].sum())})
    assert folder is not None
    files: list[Path] = []
    flagged = 0
    for piece in _in_batches(rows):
        found = scored(bundle, piece, kept)
        flagged += int(found["FLAGGED"].sum())
        files.append(write_part(found, folder / f"{len(files)}.arrow"))
        schema = found.schema
    return Produced.of(Parts(tuple(files), rows.rows, schema), metadata={**about, "flagged": flagged})


def _in_batches(rows: Parts) -> Iterator[pl.DataFrame]:
    """The rows in pieces of whole batches but for the last one, so that a model is given the batches of all rows at once.

    What a net says of a row may hang in its last digits on the rows that stand in its batch.
    """
    left = rows.schema.to_frame()
    for frame in rows.frames():
        piece = pl.concat([left, frame])
        whole_rows = piece.height // ROWS_AT_ONCE * ROWS_AT_ONCE
        left = piece[whole_rows:]
        if whole_rows:
            yield piece[:whole_rows]
    if left.height or not rows.rows:
        yield left
