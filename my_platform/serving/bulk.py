"""Bulk scoring: a file of rows with features becomes a file with their scores, some rows at a time.

Rows keep their order and carry their number. A row with a value that is no number, or an infinite one, goes to a
second file with the reason; every row is in exactly one of the two.
"""

import csv
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from my_platform.errors import PlatformError
from my_platform.learning.bundle import Bundle
from my_platform.learning.export.scoring import OnnxModel
from my_platform.serving.champion_scores import champion_model, threshold_of

ROW = "row_number"
QUARANTINE = ".quarantine.parquet"
_SCORES = ("PROBABILITY", "FLAGGED")
_ROWS_AT_ONCE = 1 << 15
_CSV_BYTES_AT_ONCE = 8 << 20
_SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True)
class Scored:
    """What scoring a file gave: rows by file, and the bundle that scored them."""

    rows: int
    scored: int
    quarantined: int
    output: str
    quarantine: str | None
    bundle: str
    model: str
    week: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def score_file(source: Path, target: Path, bundle: Bundle, *, threads: int = 1) -> Scored:
    """Score a file of rows with the features of a bundle, Parquet or CSV, larger than memory too.

    The output has the columns of the source that are no features, the row's number from 0 on, and its score. Both
    files appear whole, when all rows are done.

    Raises:
        PlatformError: the source is no such file, lacks a feature, or holds columns that the output adds.
    """
    from pyarrow import parquet

    columns, batches = _opened(source)
    features: list[str] = list(bundle.about["features"])
    _check_columns(source, columns, features)
    kept = [name for name in columns if name not in features]
    model, threshold = champion_model(bundle), threshold_of(bundle)

    def score(numbered: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        fit, bad, matrix = _divided(numbered, features)
        return _scores(fit.select(ROW, *kept), matrix, model, threshold), bad

    beside = target.with_name(f"{target.name}{QUARANTINE}")
    staged, staged_bad = (path.with_name(f".{path.name}.{secrets.token_hex(8)}") for path in (target, beside))
    rows = good = 0
    try:
        with ExitStack() as files:
            writers: dict[Path, Any] = {}

            def write(path: Path, frame: pl.DataFrame) -> None:
                table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
                if path not in writers:
                    opened = parquet.ParquetWriter(
                        path, table.schema, compression="zstd", compression_level=1
                    )
                    writers[path] = files.enter_context(opened)
                writers[path].write_table(table)

            target.parent.mkdir(parents=True, exist_ok=True)
            for fit, bad in _in_order(batches, threads, score):
                rows += fit.height + bad.height
                good += fit.height
                if bad.height:
                    write(staged_bad, bad)
                write(staged, fit)
        if not rows:
            raise PlatformError(f"{source} holds no row, so there is nothing to score")
        staged.replace(target)
        if rows > good:
            staged_bad.replace(beside)
        else:
            beside.unlink(missing_ok=True)
    finally:
        staged.unlink(missing_ok=True)
        staged_bad.unlink(missing_ok=True)
    told = str(beside) if rows > good else None
    about = bundle.about
    return Scored(rows, good, rows - good, str(target), told, bundle.digest, about["model"], about["week"])


def _in_order(
    batches: Iterator[pl.DataFrame],
    threads: int,
    score: Callable[[pl.DataFrame], tuple[pl.DataFrame, pl.DataFrame]],
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """What becomes of each batch, in order, with as many under way as there are threads, and one read ahead.

    Each thread scores a batch by itself: trees divided among threads within a batch took twice the processor time.
    """
    under_way: deque[Future[tuple[pl.DataFrame, pl.DataFrame]]] = deque()
    first = 0
    with ThreadPoolExecutor(threads) as pool:
        for frame in batches:
            numbered = frame.with_row_index(ROW, offset=first).with_columns(pl.col(ROW).cast(pl.Int64))
            first += frame.height
            under_way.append(pool.submit(score, numbered))
            if len(under_way) > threads + 1:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _scores(
    rows: pl.DataFrame, matrix: NDArray[np.float64], model: OnnxModel, threshold: float | None
) -> pl.DataFrame:
    probability = model.rows(matrix)
    flagged = pl.lit(None, pl.Boolean) if threshold is None else pl.Series(probability >= threshold)
    return rows.with_columns(PROBABILITY=pl.Series(probability, dtype=pl.Float64), FLAGGED=flagged)


def _divided(
    rows: pl.DataFrame, features: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame, NDArray[np.float64]]:
    """The rows that can be scored, the others with the reason, and the features of the former as one array."""
    if all(_is_number(rows.schema[name]) for name in features):
        matrix = _matrix(rows, features)
        if not np.isinf(matrix).any():
            return rows, rows.clear(), matrix
    fit, bad = _split(rows, features)
    return fit, bad, _matrix(fit, features)


def _matrix(rows: pl.DataFrame, features: Sequence[str]) -> NDArray[np.float64]:
    """Rows × features, the features of a row side by side, NaN where missing."""
    typed = rows.select(pl.col(name).cast(pl.Float64).fill_null(float("nan")) for name in features)
    return typed.to_numpy(order="c")


def _split(rows: pl.DataFrame, features: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows whose features are numbers, as such, and the others as they came, with the reason."""
    typed = rows.with_columns(
        pl.col(name).cast(pl.Float64, strict=False) for name in features if not _is_number(rows.schema[name])
    )
    wrong = [
        pl.when(rows[name].is_not_null() & typed[name].is_null())
        .then(pl.lit(f"column {name}: not a number"))
        .when(typed[name].cast(pl.Float64).is_infinite())
        .then(pl.lit(f"column {name}: infinite"))
        .alias(name)
        for name in features
        if typed.schema[name].is_float()
    ]
    found = rows.select(ROW).with_columns(wrong).select(ROW, reason=_first_reason(wrong))
    broken = found["reason"].is_not_null()
    if not broken.any():
        return typed, rows.clear()
    bad = rows.filter(broken).with_columns(
        reason=found["reason"].filter(broken), **{name: pl.col(name).cast(pl.String) for name in features}
    )
    return typed.filter(~broken), bad.select(ROW, "reason", pl.exclude(ROW, "reason"))


def _first_reason(wrong: Sequence[pl.Expr]) -> pl.Expr:
    """The first feature that has something against it; null where none has."""
    names = [expression.meta.output_name() for expression in wrong]
    return pl.coalesce(*names) if names else pl.lit(None, pl.String)


def _is_number(kind: pl.DataType) -> bool:
    return kind.is_numeric() or kind == pl.Boolean


def _opened(source: Path) -> tuple[list[str], Iterator[pl.DataFrame]]:
    """The columns of a file, and its rows some at a time."""
    if not source.is_file():
        raise PlatformError(f"{source} is no file; name a Parquet or CSV file of rows with features")
    if source.suffix == ".parquet":
        return _parquet(source)
    if source.suffix == ".csv":
        return _csv(source)
    raise PlatformError(f"{source} ends with {source.suffix or 'nothing'}; expected {' or '.join(_SUFFIXES)}")


def _parquet(source: Path) -> tuple[list[str], Iterator[pl.DataFrame]]:
    # Decoded in half the time that pyarrow takes for it.
    file = pl.scan_parquet(source, glob=False, hive_partitioning=False)
    try:
        names = file.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise PlatformError(f"{source} is no readable Parquet file: {error}") from error
    return names, file.collect_batches(chunk_size=_ROWS_AT_ONCE, engine="streaming", lazy=True)


def _csv(source: Path) -> tuple[list[str], Iterator[pl.DataFrame]]:
    """All columns as text: what a value is no number of is told by row, not by whole file."""
    from pyarrow import ArrowInvalid, string
    from pyarrow import csv as arrow_csv

    try:
        with open(source, encoding="utf-8") as file:
            header = next(csv.reader(file), [])
        reader = arrow_csv.open_csv(
            source,
            read_options=arrow_csv.ReadOptions(block_size=_CSV_BYTES_AT_ONCE),
            convert_options=arrow_csv.ConvertOptions(
                column_types={name: string() for name in header}, strings_can_be_null=True, null_values=[""]
            ),
        )
    except (ArrowInvalid, UnicodeDecodeError) as error:
        raise PlatformError(f"{source} is no readable CSV file: {error}") from error

    def batches() -> Iterator[pl.DataFrame]:
        for batch in reader:
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)
            yield frame

    return header, batches()


def _check_columns(source: Path, columns: Sequence[str], features: Sequence[str]) -> None:
    missing = [name for name in features if name not in columns]
    if missing:
        raise PlatformError(
            f"{source} lacks {len(missing)} features of the model: {', '.join(missing[:5])}; score a file that has "
            "all, such as the champion's test set"
        )
    taken = [name for name in columns if name in (ROW, "reason", *_SCORES)]
    if taken:
        raise PlatformError(f"{source} has the columns {', '.join(taken)}, which scoring adds; rename them")
