"""Files that their source is still writing, and files that would become too large, before they are read."""

import gzip
import io
import os
import time
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from my_platform.errors import Refused
from my_platform.incremental.declare import Grain, ordinal
from my_platform.storage.landing import Landed, Landing, content_digest
from my_platform.storage.limits import Limits, check_size, unfinished
from my_platform.storage.places import LandingFolder
from my_platform.storage.trace_index import TraceIndex

DAY = "2018-04-01"
KEY = ordinal(DAY)
PATH = f"sales/{DAY}.parquet"
TEXT = b"id,amount\n" + b"".join(b"%d,%d\n" % (n, n) for n in range(500))


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(columns or {"id": range(500)}).write_parquet(buffer)
    return buffer.getvalue()


def zstd(data: bytes) -> bytes:
    buffer = pa.BufferOutputStream()
    with pa.CompressedOutputStream(buffer, "zstd") as stream:
        stream.write(data)
    return bytes(buffer.getvalue())


def many_rows(rows: int, doublings: int) -> bytes:
    """A small Parquet file with rows of one value, whose footer names them again and again."""
    first, footer = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.table({"id": pa.repeat(pa.scalar(7), rows)}), first)
    metadata = pq.read_metadata(io.BytesIO(first.getvalue()))
    for _ in range(doublings):
        metadata.append_row_groups(metadata)
    metadata.write_metadata_file(footer)
    whole = first.getvalue()
    pages = whole[: -8 - int.from_bytes(whole[-8:-4], "little")]
    return pages + footer.getvalue()[4:]


class Writer:
    """A source that writes a file, and a landing that looks at it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "landing" / PATH
        self.file.parent.mkdir(parents=True)
        place = LandingFolder(folder / "landing")
        self.landing = Landing(place, TraceIndex(folder / "index.sqlite"), quiet_s=60)

    def write(self, data: bytes, *, age_s: float = 1) -> None:
        self.file.write_bytes(data)
        written = time.time() - age_s
        os.utime(self.file, (written, written))

    def look(self) -> Landed:
        return self.landing.scan({"sales": Grain.DAY})["sales"]


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("f.parquet", parquet()),
        ("f.csv", TEXT),
        ("f.csv.gz", gzip.compress(TEXT)),
        ("f.csv.zst", zstd(TEXT)),
    ],
)
def test_a_file_is_finished_when_its_end_is_there(name: str, whole: bytes) -> None:
    assert unfinished(name, whole, Limits()) is None
    for length in (0, 2, len(whole) // 2, len(whole) - 1):
        assert unfinished(name, whole[:length], Limits()) is not None, length


@pytest.mark.parametrize("name", ["f.parquet", "f.csv.gz", "f.csv.zst"])
def test_what_is_no_file_of_its_kind_is_not_waited_for(name: str) -> None:
    assert unfinished(name, b"not a table", Limits()) is None


def test_a_new_file_that_is_half_written_has_not_landed_yet(writer: Writer) -> None:
    writer.write(parquet()[:-100])
    found = writer.look()
    assert found.digests == {}
    assert 58 < found.unfinished[PATH] < 60
    writer.write(parquet())
    assert writer.look().digests == {KEY: content_digest(parquet())}


def test_a_file_that_is_written_anew_counts_by_what_it_said_before(writer: Writer) -> None:
    writer.write(parquet(), age_s=300)
    before = writer.look()
    writer.write(b"")
    found = writer.look()
    assert (found.digests, list(found.unfinished)) == (before.digests, [PATH])
    assert writer.look().digests == before.digests


def test_a_file_that_stays_half_written_is_taken_as_it_is(writer: Writer) -> None:
    half = parquet()[:-100]
    writer.write(half, age_s=61)
    assert writer.look() == Landed({KEY: content_digest(half)}, {KEY: (PATH,)})


def test_a_file_of_the_future_is_not_waited_for(writer: Writer) -> None:
    writer.write(b"", age_s=-100_000)
    assert list(writer.look().digests) == [KEY]


def test_a_whole_file_is_taken_at_once(writer: Writer) -> None:
    writer.write(parquet(), age_s=0)
    assert list(writer.look().digests) == [KEY]


# Too large -------------------------------------------------------------------------------------------------


def refusal(name: str, data: bytes, **limits: int) -> str:
    with pytest.raises(Refused) as caught:
        check_size(name, name, data, Limits(**limits))
    assert "raise MY_PLATFORM_MOST_FILE_ROWS or MY_PLATFORM_MOST_FILE_BYTES" in str(caught.value)
    return str(caught.value)


def test_a_small_file_of_300_million_rows_is_refused_before_it_is_read() -> None:
    bomb = many_rows(1_000_000, 9)
    assert len(bomb) < 100_000
    assert "it has 512,000,000 rows, where at most 50,000,000 are taken" in refusal("f.parquet", bomb)


def test_a_file_whose_columns_would_become_too_large_is_refused() -> None:
    bomb = many_rows(1000, 3)
    assert pl.read_parquet(io.BytesIO(bomb)).height == 8000
    assert f"its {len(bomb):,} bytes would become 64,000" in refusal("f.parquet", bomb, size_bytes=60_000)
    check_size("f.parquet", "f", bomb, Limits(rows=8000, size_bytes=70_000))


def test_a_text_that_is_stored_once_counts_as_often_as_it_is_there() -> None:
    bomb = parquet(note=["x" * 1000] * 5000)
    assert len(bomb) < 5000
    assert "would become 5,0" in refusal("f.parquet", bomb, size_bytes=1_000_000)
    check_size("f.parquet", "f", bomb, Limits(size_bytes=6_000_000))


@pytest.mark.parametrize(("name", "pack"), [("f.csv.gz", gzip.compress), ("f.csv.zst", zstd)])
def test_compressed_text_that_unpacks_to_too_much_is_refused(name: str, pack: Any) -> None:
    bomb = pack(b"0" * 5_000_000)
    assert "bytes unpack to more than 1,000,000" in refusal(name, bomb, size_bytes=1_000_000)
    check_size(name, name, bomb, Limits(size_bytes=5_000_000))


def test_a_file_that_is_too_large_as_it_lies_there_is_not_even_hashed(tmp_path: Path) -> None:
    (tmp_path / "sales").mkdir()
    (tmp_path / PATH).write_bytes(bytes(2000))
    index = TraceIndex(tmp_path / "index.sqlite")
    landing = Landing(LandingFolder(tmp_path), index, Limits(size_bytes=1000))
    found = landing.scan({"sales": Grain.DAY})["sales"]
    assert landing.hashed == 0
    with pytest.raises(Refused, match="it has 2,000 bytes, where at most 1,000 are taken"):
        landing.read(found, KEY)


@pytest.mark.parametrize("name", ["f.parquet", "f.csv.gz", "f.csv.zst"])
@pytest.mark.parametrize("data", [b"", b"PAR1", b"not a table", parquet()[:-50], gzip.compress(TEXT)[:-20]])
def test_broken_files_are_left_to_the_parser(name: str, data: bytes) -> None:
    check_size(name, name, data, Limits())
