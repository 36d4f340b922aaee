"""Tables taken apart by a key, on disk, so that all rows of a key can be had without the rows of the others.

A key's rows lie in the bucket that its hash says. What is computed of each key's rows alone can then be computed bucket
after bucket, exactly, in the memory that one bucket takes.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from my_platform.incremental.parts import read_part, write_part

_BUCKET = "__bucket"
# Buckets are not all of a size.
_EVENNESS = 0.7
_MOST_BUCKETS = 1_024


def buckets_for(needed_bytes: float, room_bytes: float) -> int:
    """How many buckets there have to be, so that the work on one of them fits; as many as there may be where none do."""
    return min(int(needed_bytes / (room_bytes * _EVENNESS)) + 1, _MOST_BUCKETS)


class Buckets:
    """The rows of partitions of several tables, by bucket.

    Args:
        folder: an empty folder, for the files.
        number: of buckets.
        piece_bytes: what a piece of a stored table may take in memory while it is taken apart.
    """

    def __init__(self, folder: Path, number: int, piece_bytes: int) -> None:
        self.folder = folder
        self.number = number
        self.piece_bytes = piece_bytes
        self.rows: dict[tuple[str, int], int] = {}
        self._files: dict[tuple[str, int, str], list[Path]] = {}
        self._schemas: dict[str, pl.Schema] = {}
        self._names = itertools.count()

    def add(
        self,
        table: str,
        partition: str,
        file: Path,
        by: str,
        columns: Sequence[str] | None,
        *,
        numbered: str | None = None,
    ) -> None:
        """Take a stored partition apart.

        Args:
            by: the key; rows without one lie in some bucket.
            columns: those that are kept; None for all.
            numbered: a column that is added, with the number of each row in the partition.
        """
        seen = 0
        for found in pieces(file, columns, self.piece_bytes):
            piece = found if numbered is None else found.with_row_index(numbered, seen)
            seen += found.height
            self._schemas.setdefault(table, piece.schema)
            key = pl.col(by).cast(pl.Int64) if piece.schema[by].is_integer() else pl.col(by)
            marked = piece.with_columns((key.hash(0) % self.number).cast(pl.UInt32).alias(_BUCKET))
            parts = marked.partition_by(_BUCKET, as_dict=True, include_key=False, maintain_order=True)
            for (bucket,), rows in parts.items():
                path = self.folder / f"{next(self._names)}.arrow"
                self._files.setdefault((table, bucket, partition), []).append(write_part(rows, path))
                self.rows[table, bucket] = self.rows.get((table, bucket), 0) + rows.height

    def read(self, table: str, bucket: int, partitions: Sequence[str]) -> pl.DataFrame:
        """The rows of a bucket in some partitions, one partition after the other, each in its order."""
        files = [file for key in partitions for file in self._files.get((table, bucket, key), ())]
        if not files:
            return self._schemas[table].to_frame()
        return pl.concat([read_part(file) for file in files])


def pieces(file: Path, columns: Sequence[str] | None, piece_bytes: int) -> Iterator[pl.DataFrame]:
    """The rows of a Parquet file in order, some at a time; one frame without rows where it has none."""
    whole = pl.scan_parquet(file, glob=False, hive_partitioning=False)
    if columns is not None:
        whole = whole.select(columns)
    rows = whole.select(pl.len()).collect().item()
    if not rows:
        yield whole.collect()
        return
    sample = whole.head(1_000).collect()
    at_once = max(1, int(piece_bytes / max(sample.estimated_size() / sample.height, 1)))
    for start in range(0, rows, at_once):
        yield whole.slice(start, at_once).collect()
