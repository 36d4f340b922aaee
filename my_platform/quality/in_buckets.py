"""Validation of a partition that does not fit into memory: the rows with some values of a key at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from my_platform.errors import Refused
from my_platform.incremental.buckets import Buckets, buckets_for
from my_platform.incremental.memory import Memory
from my_platform.incremental.parts import Parts, sorted_parts, write_part
from my_platform.quality.contracts import ROW, Contract
from my_platform.quality.rows import Context, Split, check_height, check_shares, divided

# What validation takes in sizes of its table, as it was measured with two rules and a unique column.
VALIDATED_BY = 4.0
# Of the room, what rows in quarantine may take.
_QUARANTINED_SHARE = 0.25
_NUMBER = "__row"


@contextmanager
def divided_in_buckets(
    file: Path,
    size_bytes: int,
    contract: Contract,
    asset: str,
    partition: str,
    context: Context,
    memory: Memory,
) -> Iterator[tuple[Split, Parts | None, int]]:
    """What ``rows.split_rows`` gives, the valid rows in parts where they do not fit, and the number of landed rows.

    Args:
        file: the table of the partition, as Parquet.
        size_bytes: what it takes in memory.

    Raises:
        Refused: as ``split_rows`` does; of the bad rows it carries as many as there is room for.
        MemoryLimitError: the rows of one value, or the bad ones of a partition that is taken, do not fit.
    """
    room = memory.room_bytes
    assert room is not None
    assert contract.apart is not None
    number = buckets_for(size_bytes * VALIDATED_BY, room)
    with memory.folder() as folder:
        (folder / "in").mkdir()
        buckets = Buckets(folder / "in", number, room // 8)
        buckets.add("rows", partition, file, contract.apart, None, numbered=_NUMBER)
        landed = sum(buckets.rows.values())
        check_height(landed, contract)
        why = (
            f"as some {contract.apart} stands in so many rows that {number} parts of it do not come out even"
        )
        row_bytes = size_bytes / max(landed, 1)
        memory.require(
            asset, partition, max(buckets.rows.values(), default=0) * row_bytes * VALIDATED_BY, why
        )
        files: list[Path] = []
        bad: list[pl.DataFrame] = []
        faults: list[pl.DataFrame] = []
        released = left_out = 0
        kept = 0.0
        for bucket in range(number):
            rows = buckets.read("rows", bucket, [partition])
            split = divided(rows.drop(_NUMBER), contract, partition, context)
            numbers = rows.get_column(_NUMBER)
            valid = rows.filter(~pl.int_range(pl.len()).is_in(split.quarantined[ROW].implode()))
            files.append(write_part(valid, folder / f"{bucket}.arrow"))
            released += split.released
            kept += int(split.quarantined.estimated_size() + split.faults.estimated_size())
            fits = kept <= room * _QUARANTINED_SHARE
            left_out += 0 if fits else split.quarantined.height
            bad.append(_renumbered(split.quarantined if fits else split.quarantined.clear(), numbers))
            faults.append(_renumbered(split.faults if fits else split.faults.clear(), numbers))
        quarantined = pl.concat(bad).sort(ROW)
        _check(landed, quarantined, pl.concat(faults).sort(ROW, maintain_order=True), left_out, contract)
        memory.require(
            asset, partition, kept / _QUARANTINED_SHARE if left_out else 0, "for its rows in quarantine"
        )
        order = (*contract.sort_by, _NUMBER)
        made = sorted_parts(files, order, (_NUMBER,), room, folder)
        parts = made if isinstance(made, Parts) else None
        valid_rows = made.schema.to_frame() if isinstance(made, Parts) else made
        yield Split(valid_rows, quarantined, released), parts, landed


def _renumbered(rows: pl.DataFrame, numbers: pl.Series) -> pl.DataFrame:
    """Rows that are numbered within a bucket, numbered as in the partition."""
    return rows.with_columns(numbers.gather(rows[ROW]).cast(rows.schema[ROW]).alias(ROW))


def _check(
    landed: int, quarantined: pl.DataFrame, faults: pl.DataFrame, left_out: int, contract: Contract
) -> None:
    check_shares(landed, quarantined, faults, contract)
    bad = quarantined.height + left_out
    if left_out and bad > contract.most_bad_share * landed:
        raise Refused(
            f"{bad} of {landed} rows break the contract, more than {contract.most_bad_share:.0%}; "
            f"{quarantined.height} of them are kept. Deliver a corrected file",
            rows=quarantined,
        )
