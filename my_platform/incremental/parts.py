"""A table that need not fit into memory: its rows in files, in order, and its data version.

The files are Arrow IPC files (lz4) of this process, gone when its run has ended.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import xxhash

from my_platform.errors import PlatformError
from my_platform.incremental.content import SCHEME, _contiguous, _numbers, type_name

# Work on a table while it is sorted, in sizes of it: its pieces, the whole of them, and the sorted copy.
SORTED_BY_COPY = 3.0
_SAMPLED_PER_RANGE = 64


@dataclass(frozen=True)
class Parts:
    """Rows of a table in files, one after the other; at least one file."""

    files: tuple[Path, ...]
    rows: int
    schema: pl.Schema

    def frames(self, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        for file in self.files:
            yield read_part(file, columns)


def write_part(frame: pl.DataFrame, file: Path) -> Path:
    frame.write_ipc(file, compression="lz4")
    return file


def read_part(file: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    return pl.read_ipc(file, columns=list(columns) if columns is not None else None)


def sorted_parts(
    files: Sequence[Path], sort_by: Sequence[str], drop: Sequence[str], room_bytes: int, folder: Path
) -> pl.DataFrame | Parts:
    """The rows of several files in order: as one frame where that fits, else in files of that order.

    Args:
        files: at least one; removed.
        sort_by: columns without nulls; rows that are alike in them keep the order in which they are given.
        drop: columns that are left out of the result.
        room_bytes: what sorting may take.
        folder: for files; those of the result stay there.
    """
    frames = (read_part(file) for file in files)
    size = sum(frame.estimated_size() for frame in frames)
    if size * SORTED_BY_COPY <= room_bytes:
        return _sorted(files, sort_by).drop(drop)
    ranges = int(size * SORTED_BY_COPY // room_bytes) + 1
    starts = _starts(files, sort_by, ranges)
    pieces: list[list[Path]] = [[] for _ in range(len(starts) + 1)]
    for number, file in enumerate(files):
        frame = read_part(file)
        for at, piece in _in_ranges(frame, sort_by, starts):
            pieces[at].append(write_part(piece, folder / f"range-{at}-{number}.arrow"))
        file.unlink()
    made, rows = [], 0
    for at, found in enumerate(pieces):
        if found:
            frame = _sorted(found, sort_by).drop(drop)
            rows, schema = rows + frame.height, frame.schema
            made.append(write_part(frame, folder / f"part-{at}.arrow"))
    return Parts(tuple(made), rows, schema)


def _sorted(files: Sequence[Path], sort_by: Sequence[str]) -> pl.DataFrame:
    whole = pl.concat([read_part(file) for file in files])
    for file in files:
        file.unlink()
    return whole.sort(sort_by, maintain_order=True)


def _starts(files: Sequence[Path], sort_by: Sequence[str], ranges: int) -> pl.DataFrame:
    """The keys at which all ranges but the first start, from a sample of evenly spaced rows of each file."""
    keys = [read_part(file, sort_by) for file in files]
    step = max(1, sum(frame.height for frame in keys) // (ranges * _SAMPLED_PER_RANGE))
    sample = pl.concat([frame.gather_every(step) for frame in keys]).sort(sort_by)
    at = [sample.height * number // ranges for number in range(1, ranges)]
    return sample[at].unique(maintain_order=True)


def _in_ranges(
    frame: pl.DataFrame, sort_by: Sequence[str], starts: pl.DataFrame
) -> Iterator[tuple[int, pl.DataFrame]]:
    """The rows of each range that has some, with the number of the range."""
    number = pl.lit(0, pl.UInt32)
    for row in starts.iter_rows():
        at_or_after, equal = pl.lit(False), pl.lit(True)
        for name, value in zip(sort_by, row, strict=True):
            start = pl.lit(value, starts.schema[name])
            at_or_after = at_or_after | (equal & (pl.col(name) > start))
            equal = equal & (pl.col(name) == start)
        number = number + (at_or_after | equal).cast(pl.UInt32)
    found = frame.select(number).to_series()
    for at in found.unique().sort():
        yield at, frame.filter(found == at)


_Column = Callable[[], Iterable[pl.Series]]
"""The values of a column, some at a time; read again with each call."""


def version_of_parts(parts: Parts) -> str:
    """The data version of a table in parts: that of ``content.data_version``, with a part of a column in memory."""
    total = xxhash.xxh3_128(SCHEME)
    total.update(struct.pack("<QQ", parts.rows, len(parts.schema)))
    for name, dtype in parts.schema.items():

        def column(name: str = name) -> Iterator[pl.Series]:
            return (frame.get_column(name) for frame in parts.frames([name]))

        total.update(struct.pack("<Q", len(name.encode())))
        total.update(name.encode())
        try:
            total.update(_digest(column, dtype, parts.rows))
        except PlatformError as error:
            raise PlatformError(f"column {name} {error}") from None
    return total.hexdigest()


def _digest(column: _Column, dtype: pl.DataType, rows: int) -> bytes:
    digest = xxhash.xxh3_128()
    kind = type_name(dtype).encode()
    digest.update(struct.pack("<QQ", len(kind), rows))
    digest.update(kind)
    _add(digest, column, dtype, rows)
    return digest.digest()


def _add(digest: xxhash.xxh3_128, column: _Column, dtype: pl.DataType, rows: int) -> None:
    """What ``content._add_values`` adds: first the nulls of all parts, then lengths, then values."""
    if any(series.null_count() for series in column()):
        digest.update(b"\x01")
        for series in column():
            digest.update(_contiguous(series.is_null().to_numpy()))
    else:
        digest.update(b"\x00")
    if isinstance(dtype, pl.Null):
        return
    if isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            inner = field.dtype
            assert isinstance(inner, pl.DataType)
            digest.update(_digest(_mapped(column, _field(field.name)), inner, rows))
        return
    if isinstance(dtype, pl.List | pl.Array):
        inner = dtype.inner
        assert isinstance(inner, pl.DataType)
        items = 0
        for series in column():
            lengths = _lengths(series)
            items += int(lengths.sum())
            digest.update(_contiguous(lengths.to_numpy()))
        digest.update(struct.pack("<Q", items))
        _add(digest, _mapped(column, _items), inner, items)
        return
    if isinstance(dtype, pl.Enum | pl.Categorical | pl.Decimal):
        column, dtype = _mapped(column, lambda series: series.cast(pl.String)), pl.String()
    if isinstance(dtype, pl.String | pl.Binary):
        texts = isinstance(dtype, pl.String)
        filled = _mapped(column, lambda series: series.fill_null("" if texts else b""))
        for series in filled():
            sizes = series.str.len_bytes() if texts else series.bin.size()
            digest.update(_contiguous(sizes.cast(pl.Int64).to_numpy()))
        for series in filled():
            if texts:
                digest.update((series.str.join("").item() or "").encode() if len(series) else b"")
            else:
                digest.update(b"".join(series.to_list()))
        return
    for series in column():
        digest.update(_contiguous(_numbers(series)))


def _mapped(column: _Column, change: Callable[[pl.Series], pl.Series]) -> _Column:
    return lambda: (change(series) for series in column())


def _field(name: str) -> Callable[[pl.Series], pl.Series]:
    return lambda series: series.struct.field(name)


def _lengths(series: pl.Series) -> pl.Series:
    lists = series.arr.to_list() if isinstance(series.dtype, pl.Array) else series
    return lists.list.len().fill_null(0).cast(pl.Int64)


def _items(series: pl.Series) -> pl.Series:
    lists = series.arr.to_list() if isinstance(series.dtype, pl.Array) else series
    return lists.filter(_lengths(series) > 0).explode()
