"""What is looked at before a landed file is parsed: whether it is finished, and how large it would become.

A small file may claim to hold more than any memory: a column of one value costs a few bytes in Parquet
whatever its length, and compressed text shrinks a thousandfold. What a file would become is told from its
footer, or by decompressing it piece by piece, and a file that is too large is refused before it is read.
"""

import contextlib
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from my_platform.errors import Refused

# What reading a compressed file raises where it is broken.
UNPACKING_FAILS: tuple[type[Exception], ...] = (EOFError, OSError, ValueError, zlib.error)
_MAGIC = b"PAR1"
_PIECE = 1 << 20
# Bytes of a value in memory; a text has its place in a buffer besides its own bytes.
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8}


@dataclass(frozen=True)
class Limits:
    """The largest landed file that is taken: its rows, and its bytes as stored and as read into memory."""

    rows: int = 50_000_000
    size_bytes: int = 4 << 30


def unfinished(path: str, data: bytes, limits: Limits) -> str | None:
    """What a file lacks at its end that its source may still be writing; None for a finished or a broken one."""
    if not data:
        return "it is empty"
    if path.endswith(".parquet"):
        cut = data.startswith(_MAGIC) and not (data.endswith(_MAGIC) and len(data) > 2 * len(_MAGIC))
        return "its Parquet footer is missing" if cut or _MAGIC.startswith(data) else None
    if path.endswith(".csv"):
        return None if data.endswith((b"\n", b"\r")) else "its last line has no end"
    try:
        _unpacked_bytes(path, data, limits.size_bytes)
    except EOFError:
        return "its compressed stream has no end"
    except (OSError, ValueError, zlib.error):
        return None
    return None


def check_size(path: str, name: str, data: bytes, limits: Limits) -> None:
    """Raise Refused where a file would become larger than the limits; broken files are left to the parser.

    Args:
        path: tells the format by its suffix.
        name: how the file is called in the message.
    """
    if path.endswith(".parquet"):
        _check_parquet(name, data, limits)
    elif not path.endswith(".csv"):
        with contextlib.suppress(*UNPACKING_FAILS):
            if _unpacked_bytes(path, data, limits.size_bytes) > limits.size_bytes:
                raise too_large(name, f"its {len(data):,} bytes unpack to more than {limits.size_bytes:,}")


def too_large(name: str, why: str) -> Refused:
    """The refusal of a file beyond the limits."""
    return Refused(
        f"{name}: the file is too large: {why}. If it is right, raise MY_PLATFORM_MOST_FILE_ROWS or "
        "MY_PLATFORM_MOST_FILE_BYTES and run `my-platform refresh --retry`; if not, deliver it again"
    )


def _check_parquet(name: str, data: bytes, limits: Limits) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        footer = parquet.read_metadata(io.BytesIO(data))
    except (pa.ArrowException, OSError, ValueError):
        return
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    rows = max(footer.num_rows, sum(group.num_rows for group in groups))
    if rows > limits.rows:
        raise too_large(name, f"it has {rows:,} rows, where at most {limits.rows:,} are taken")
    size = texts = 0
    for column in (group.column(number) for group in groups for number in range(group.num_columns)):
        size += max(column.total_uncompressed_size, column.num_values * _WIDTHS.get(column.physical_type, 16))
        if column.physical_type == "BYTE_ARRAY":
            texts += column.num_values * column.total_uncompressed_size
    if size <= limits.size_bytes < size + texts:
        size += _text_bytes(data)
    if size > limits.size_bytes:
        raise too_large(
            name,
            f"its {len(data):,} bytes would become {size:,}, where at most {limits.size_bytes:,} are taken",
        )


def _text_bytes(data: bytes) -> int:
    """The bytes of all texts in a file; one that repeats is stored once in it, and counts each time."""
    lengths = pl.col(pl.String, pl.Binary).cast(pl.Binary).bin.size().cast(pl.Int64).sum()
    try:
        found = pl.scan_parquet(io.BytesIO(data)).select(lengths).collect(engine="streaming")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return 0
    return sum(found.row(0)) if found.width else 0


def _unpacked_bytes(path: str, data: bytes, at_most: int) -> int:
    """The size of a compressed file's text, counted no further than just beyond a limit."""
    size = 0
    for piece in unpacked_pieces(path, data):
        size += len(piece)
        if size > at_most:
            break
    return size


def unpacked_pieces(path: str, data: bytes) -> Iterator[bytes]:
    """The unpacked bytes of a compressed file, at most a megabyte at a time; EOFError where it is cut short."""
    if path.endswith(".gz"):
        yield from _gzip_pieces(data)
        return
    import pyarrow as pa

    with pa.input_stream(pa.py_buffer(data), compression="zstd") as stream:
        while True:
            try:
                piece = stream.read(_PIECE)
            except OSError as error:
                if "Truncated" in str(error):
                    raise EOFError(str(error)) from error
                raise
            if not piece:
                return
            yield piece


def _gzip_pieces(data: bytes) -> Iterator[bytes]:
    rest = data
    while rest:
        unpacker = zlib.decompressobj(wbits=31)
        while not unpacker.eof:
            piece = unpacker.decompress(rest, _PIECE)
            rest = unpacker.unconsumed_tail
            if piece:
                yield piece
            elif not rest and not unpacker.eof:
                raise EOFError("the gzip stream has no end")
        rest = unpacker.unused_data
