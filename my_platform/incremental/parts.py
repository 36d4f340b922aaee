"""A table that need not fit into memory: its rows in files, in order, and its data version.

The files are Arrow IPC files (lz4) of this process, gone when its run has ended.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from my_platform.incremental.content import Chunks, version_of

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

    def scan(self) -> pl.LazyFrame:
        """The rows in order, of which a query with the streaming engine reads some at a time."""
        return pl.concat([pl.scan_ipc(file, glob=False, hive_partitioning=False) for file in self.files])


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
    size = sum(read_part(file).estimated_size() for file in files)
    if size * SORTED_BY_COPY <= room_bytes:
        return _sorted(files, sort_by).drop(drop)
    ranges = int(size * SORTED_BY_COPY // room_bytes) + 1
    starts = _starts(files, sort_by, ranges)
    pieces: list[list[Path]] = [[] for _ in range(len(starts) + 1)]
    for number, file in enumerate(files):
        # No name keeps a frame here while the next one is read.
        for at, piece in _in_ranges(read_part(file), sort_by, starts):
            pieces[at].append(write_part(piece, folder / f"range-{at}-{number}.arrow"))
            del piece
        file.unlink()
    made, rows = [], 0
    for at, found in enumerate(pieces):
        if found:
            frame = _sorted(found, sort_by).drop(drop)
            rows, schema = rows + frame.height, frame.schema
            made.append(write_part(frame, folder / f"part-{at}.arrow"))
            del frame
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


def version_of_parts(parts: Parts) -> str:
    """The data version of a table in parts: that of ``content.data_version``, with a part of a column in memory."""

    def column(name: str) -> Chunks:
        return lambda: (frame.get_column(name) for frame in parts.frames([name]))

    return version_of(parts.schema, parts.rows, column)
