"""A function called on a part of its rows at a time, where all of them do not fit into memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from my_platform.incremental.buckets import Buckets, buckets_for
from my_platform.incremental.memory import AS_A_WHOLE, Memory, table_bytes
from my_platform.incremental.parts import Parts, sorted_parts, write_part

# What a function takes of one partition or bucket after the other, in sizes of its inputs: as AS_A_WHOLE, and what
# allocators still keep of the one before.
_IN_TURN = 4.0


@dataclass(frozen=True)
class Apart:
    """How the rows that a function reads may be taken apart.

    Given the rows with some values of a key, the function makes of them what it makes of them among all rows, in the same
    order; the whole numbers of its metadata are sums over rows. Checks are answered by the asset's judge, which sees all rows.

    Attributes:
        by: the key of each read that is taken apart; the others are given whole each time.
        sort_by: the columns that fix the order of the result, without nulls.
    """

    by: Mapping[str, str]
    sort_by: tuple[str, ...]


class Inputs(Protocol):
    """What is asked of a batch here; see ``declare.Batch``."""

    asset: str
    memory: Memory

    def inputs(self, read: str, key: str) -> Mapping[str, pl.DataFrame]: ...
    def files(self, read: str, key: str) -> Mapping[str, str]: ...
    def row_counts(self, read: str, key: str) -> Mapping[str, int]: ...
    def types(self, read: str) -> Mapping[str, pl.DataType]: ...
    def empty(self, read: str) -> pl.DataFrame: ...


Made = tuple[pl.DataFrame, pl.DataFrame | None, Mapping[str, Any]]
"""Value, quarantined rows and metadata."""


@dataclass(frozen=True)
class InParts:
    """What came out bucket by bucket."""

    value: pl.DataFrame | Parts
    quarantined: pl.DataFrame | None
    metadata: Mapping[str, Any]


def input_bytes(batch: Inputs, reads: Sequence[str], key: str) -> int:
    """What the tables take in memory that a partition is computed from; 0, unasked, where there is no limit."""
    if batch.memory.limit_bytes is None:
        return 0
    return sum(table_bytes(sum(batch.row_counts(read, key).values()), batch.types(read)) for read in reads)


def require_whole(batch: Inputs, reads: Sequence[str], key: str) -> None:
    """Raise MemoryLimitError where a function that is given all of its rows cannot be called within the limit."""
    if batch.memory.limit_bytes is not None:
        needed = input_bytes(batch, reads, key) * AS_A_WHOLE
        batch.memory.require(batch.asset, key, needed, "as it is given all rows of its inputs at once")


def has_to_be_apart(batch: Inputs, apart: Apart | None, reads: Sequence[str], keys: Sequence[str]) -> bool:
    """Whether one of some partitions does not fit into memory whose rows can be taken apart."""
    if apart is None or batch.memory.limit_bytes is None:
        return False
    return not batch.memory.fits(max(input_bytes(batch, reads, key) for key in keys) * _IN_TURN)


def whole(batch: Inputs, read: str, key: str) -> pl.DataFrame:
    """The tables that a read gives for a partition, one after the other."""
    tables = batch.inputs(read, key)
    return pl.concat(list(tables.values())) if tables else batch.empty(read)


def in_buckets(
    call: Callable[[str, Mapping[str, pl.DataFrame]], Made],
    batch: Inputs,
    keys: Sequence[str],
    apart: Apart,
    columns: Mapping[str, Sequence[str] | None],
) -> Iterator[tuple[str, InParts]]:
    """What a function makes of each partition, its inputs taken apart once for all of them.

    Args:
        call: the function, given a partition and what it reads.
        columns: those that it reads, by read; None for all.

    Raises:
        MemoryLimitError: the reads that are given whole, or the rows of one bucket, do not fit.
    """
    room = batch.memory.room_bytes
    assert room is not None
    undivided = [read for read in columns if read not in apart.by]
    largest = max(keys, key=lambda key: input_bytes(batch, list(apart.by), key))
    shared = max((input_bytes(batch, undivided, key) for key in keys), default=0) * AS_A_WHOLE
    batch.memory.require(batch.asset, largest, 2 * shared, "for what it is given whole")
    needed = input_bytes(batch, list(apart.by), largest) * _IN_TURN
    number = buckets_for(needed, room - shared)
    with batch.memory.folder() as folder:
        (folder / "in").mkdir()
        buckets = Buckets(folder / "in", number, room // 8)
        for read, by in apart.by.items():
            files = {p: file for key in keys for p, file in batch.files(read, key).items()}
            for partition, file in files.items():
                buckets.add(read, partition, Path(file), by, columns[read])
        for key in keys:
            yield key, _of_key(call, batch, key, apart, columns, buckets, folder, room)


def _of_key(
    call: Callable[[str, Mapping[str, pl.DataFrame]], Made],
    batch: Inputs,
    key: str,
    apart: Apart,
    columns: Mapping[str, Sequence[str] | None],
    buckets: Buckets,
    folder: Path,
    room: int,
) -> InParts:
    own = folder / (key or "all")
    own.mkdir()
    written: list[Path] = []
    quarantined: list[pl.DataFrame] = []
    about: dict[str, Any] = {}

    def of_bucket(bucket: int) -> None:
        # What it holds is gone when the next bucket is read.
        nonlocal about
        given = {read: _given(batch, read, key, apart, buckets, bucket) for read in columns}
        size = sum(frame.estimated_size() for frame in given.values()) * AS_A_WHOLE
        why = f"as one of {buckets.number} parts of it by {', '.join(sorted(set(apart.by.values())))} is that large"
        batch.memory.require(batch.asset, key, size, why)
        value, bad, metadata = call(key, given)
        about = {name: _added(about.get(name), found) for name, found in metadata.items()}
        if bad is not None:
            quarantined.append(bad)
        if value.height or bucket == buckets.number - 1:
            written.append(write_part(value, own / f"{bucket}.arrow"))

    for bucket in range(buckets.number):
        of_bucket(bucket)
    # Allocators still keep some of what the last bucket took.
    made = sorted_parts(written, apart.sort_by, (), room // 2, own)
    computed = f"in {buckets.number} parts by {', '.join(dict.fromkeys(apart.by.values()))}"
    bad = pl.concat(quarantined) if quarantined else None
    if bad is not None:
        bad = bad.sort([name for name in apart.sort_by if name in bad.columns] or bad.columns[:1])
    return InParts(made, bad, {**about, "computed": computed})


def _given(batch: Inputs, read: str, key: str, apart: Apart, buckets: Buckets, bucket: int) -> pl.DataFrame:
    if read in apart.by:
        partitions = list(batch.files(read, key))
        return buckets.read(read, bucket, partitions) if partitions else batch.empty(read)
    return whole(batch, read, key)


def _added(before: Any, found: Any) -> Any:
    return before + found if isinstance(before, int) and not isinstance(before, bool) else found
