"""Sealed Parquet: a table and the record of how it was made, in one object that proves itself.

The record stands in the file's key-value metadata as JSON. The seal is the XXH3-128 of all bytes of the
file, taken with the 32 digits of the seal itself set to zero; it is written over those zeros last. Reading
checks the seal before a Parquet reader sees a byte, because polars does not check page checksums.
"""

import contextlib
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
import xxhash

from my_platform.errors import DamagedObject
from my_platform.incremental.parts import Parts

_SEAL_KEY = "my_platform.seal"
_RECORD_KEY = "my_platform.record"
_MARK = b"seal:"
_BLANK = b"0" * 32
# The length of a Parquet file's footer, and its last four letters.
_TAIL_BYTES = 8
_PIECE_BYTES = 4 << 20
_ROWS_OF_A_GROUP = 1 << 17
# Key and value as Thrift writes them, with type and length of the value in between. Only the record and the
# schema may follow in a file; neither can hold these bytes, being JSON and base64.
_BEFORE_SEAL = _SEAL_KEY.encode() + bytes([0x18, len(_MARK) + len(_BLANK)]) + _MARK


def seal(table: pl.DataFrame, record: Mapping[str, Any]) -> bytes:
    """The bytes of a sealed Parquet file (zstd)."""
    buffer = io.BytesIO()
    metadata = {
        _SEAL_KEY: (_MARK + _BLANK).decode(),
        _RECORD_KEY: json.dumps(record, sort_keys=True, separators=(",", ":")),
    }
    table.write_parquet(buffer, compression="zstd", compression_level=1, metadata=metadata)
    data = bytearray(buffer.getvalue())
    at = _seal_position(data)
    assert at is not None
    data[at : at + 32] = xxhash.xxh3_128(data).hexdigest().encode()
    return bytes(data)


def seal_parts(table: Parts, record: Mapping[str, Any], path: Path) -> Path:
    """Write a sealed Parquet file of a table in parts, some rows of it in memory at a time; its path."""
    table.scan().sink_parquet(
        path,
        compression="zstd",
        compression_level=1,
        row_group_size=_ROWS_OF_A_GROUP,
        maintain_order=True,
        metadata={
            _SEAL_KEY: (_MARK + _BLANK).decode(),
            _RECORD_KEY: json.dumps(record, sort_keys=True, separators=(",", ":")),
        },
        engine="streaming",
    )
    with open(path, "r+b") as file:
        at = _seal_position_of(file)
        assert at is not None
        digest = _digest_of(file, at)
        file.seek(at)
        file.write(digest)
    return path


def check_seal_of(path: Path) -> int:
    """The bytes of a file; raises DamagedObject unless they are those that were sealed."""
    try:
        with open(path, "rb") as file:
            at = _seal_position_of(file)
            if at is None:
                raise DamagedObject(
                    str(path), "the object has no seal; it is cut short or was not written by the platform"
                )
            file.seek(at)
            if file.read(len(_BLANK)) != _digest_of(file, at):
                raise DamagedObject(str(path), "its bytes are not those that were written")
            return file.seek(0, io.SEEK_END)
    except FileNotFoundError:
        raise DamagedObject(str(path), "the object is not there") from None


def _digest_of(file: BinaryIO, at: int) -> bytes:
    """The seal of a file whose seal's place is known, read a piece at a time."""
    digest = xxhash.xxh3_128()
    file.seek(0)
    left = at
    while left and (piece := file.read(min(_PIECE_BYTES, left))):
        digest.update(piece)
        left -= len(piece)
    digest.update(_BLANK)
    file.seek(at + len(_BLANK))
    while piece := file.read(_PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest().encode()


def _seal_position_of(file: BinaryIO) -> int | None:
    """Where the seal stands in a file: in its footer, whose length is told at its end."""
    size = file.seek(0, io.SEEK_END)
    if size < _TAIL_BYTES:
        return None
    file.seek(size - _TAIL_BYTES)
    footer = int.from_bytes(file.read(4), "little") + _TAIL_BYTES
    start = size - min(footer, size)
    file.seek(start)
    at = _seal_position(file.read())
    return None if at is None else start + at


def check_seal(data: bytes, path: str) -> None:
    """Raise DamagedObject unless the bytes are those that were sealed."""
    at = _seal_position(data)
    if at is None:
        raise DamagedObject(
            path, "the object has no seal; it is cut short or was not written by the platform"
        )
    digest = xxhash.xxh3_128(data[:at])
    digest.update(_BLANK)
    digest.update(data[at + 32 :])
    if digest.hexdigest().encode() != data[at : at + 32]:
        raise DamagedObject(path, "its bytes are not those that were written")


def unseal(data: bytes, path: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The table of a sealed file, or some of its columns; raises DamagedObject."""
    check_seal(data, path)
    return pl.read_parquet(io.BytesIO(data), columns=list(columns) if columns is not None else None)


def tables_of(files: Sequence[bytes], columns: Sequence[str] | None = None) -> list[pl.DataFrame]:
    """The tables of files whose seals were checked: read together, in two thirds of the time or less."""
    names = list(columns) if columns is not None else None
    if len(files) > 1:
        # Where one ends and the next begins stands under the seal of each.
        heights = [int(_record(data).get("rows", 0)) for data in files]
        starts = [0, *itertools.accumulate(heights)]
        # Those that differ in columns or types cannot be read together.
        with contextlib.suppress(pl.exceptions.PolarsError):
            whole = pl.read_parquet(list(files), columns=names)
            if whole.height == starts[-1]:
                return [whole.slice(start, height) for start, height in zip(starts, heights, strict=False)]
    return [pl.read_parquet(io.BytesIO(data), columns=names) for data in files]


def record_of(data: bytes, path: str) -> dict[str, Any]:
    """The record of a sealed file; raises DamagedObject."""
    check_seal(data, path)
    return _record(data)


def _record(data: bytes) -> dict[str, Any]:
    record = json.loads(pl.read_parquet_metadata(io.BytesIO(data))[_RECORD_KEY])
    assert isinstance(record, dict)
    return record


def _seal_position(data: bytes | bytearray) -> int | None:
    start = data.rfind(_BEFORE_SEAL)
    at = start + len(_BEFORE_SEAL)
    return at if start >= 0 and at + 32 <= len(data) else None
