"""Tables in parts: the same data version and the same order as in memory, and buckets that keep every row."""

from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from polars.testing.parametric import dataframes

from my_platform.incremental.buckets import Buckets, pieces
from my_platform.incremental.content import data_version
from my_platform.incremental.parts import Parts, read_part, sorted_parts, version_of_parts, write_part

TYPES = [
    pl.Boolean,
    pl.Int8,
    pl.Int64,
    pl.UInt32,
    pl.Float32,
    pl.Float64,
    pl.String,
    pl.Binary,
    pl.Date,
    pl.Time,
    pl.Datetime,
    pl.Duration,
    pl.Categorical,
    pl.Decimal,
    pl.List(pl.String),
    pl.Array(pl.Int16, 2),
    pl.Struct({"a": pl.Int64, "b": pl.List(pl.Int8)}),
]
many_times = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def parts_of(table: pl.DataFrame, cuts: list[int], folder: Path) -> Parts:
    edges = [0, *sorted(min(cut, table.height) for cut in cuts), table.height]
    files = [
        write_part(table[start:end], folder / f"{number}.arrow")
        for number, (start, end) in enumerate(pairwise(edges))
    ]
    return Parts(tuple(files), table.height, table.schema)


@many_times
@given(
    table=dataframes(min_cols=1, max_cols=3, max_size=12, allowed_dtypes=TYPES, allow_chunks=True),
    cuts=st.lists(st.integers(0, 12), max_size=3),
)
def test_a_table_in_parts_has_the_data_version_that_it_has_in_memory(
    table: pl.DataFrame, cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    parts = parts_of(table, cuts, tmp_path_factory.mktemp("parts"))
    assert version_of_parts(parts) == data_version(table)


keyed = st.lists(
    st.tuples(st.integers(-2, 2), st.none() | st.text("ab", max_size=1), st.integers(0, 9)),
    min_size=1,
    max_size=40,
)


@many_times
@given(rows=keyed, cuts=st.lists(st.integers(0, 40), max_size=4), room=st.sampled_from([1, 100, 10**9]))
def test_rows_of_several_files_are_sorted_as_one_table_is(
    rows: list[tuple[int, str | None, int]],
    cuts: list[int],
    room: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    table = pl.DataFrame(rows, schema={"k": pl.Int64, "text": pl.String, "n": pl.Int8}, orient="row")
    folder = tmp_path_factory.mktemp("sorted")
    found = sorted_parts(parts_of(table, cuts, folder).files, ("k", "n"), ("n",), room, folder)
    expected = table.sort("k", "n", maintain_order=True).drop("n")
    if isinstance(found, Parts):
        assert found.rows == table.height
        found = pl.concat(list(found.frames()))
    assert_frame_equal(found, expected)


def test_sorting_in_little_room_makes_several_files_of_rows_in_order(tmp_path: Path) -> None:
    table = pl.DataFrame({"k": [n * 7919 % 1000 for n in range(1000)]})
    found = sorted_parts(parts_of(table, [300], tmp_path).files, ("k",), (), 2_000, tmp_path)
    assert isinstance(found, Parts)
    assert len(found.files) > 8
    assert [k for frame in found.frames() for k in frame["k"]] == list(range(1000))
    assert sorted(file for file in tmp_path.iterdir()) == sorted(found.files)


def test_buckets_hold_every_row_once_and_a_key_in_one_bucket(tmp_path: Path) -> None:
    for day in range(3):
        frame = pl.DataFrame(
            {"key": [n % 17 for n in range(100)], "n": list(range(day * 100, day * 100 + 100))}
        )
        frame.write_parquet(tmp_path / f"{day}.parquet", row_group_size=30)
    (tmp_path / "in").mkdir()
    buckets = Buckets(tmp_path / "in", 5, piece_bytes=400)
    for day in range(3):
        buckets.add("orders", str(day), tmp_path / f"{day}.parquet", "key", None)
    found = [buckets.read("orders", bucket, ["0", "1", "2"]) for bucket in range(5)]
    assert sorted(n for frame in found for n in frame["n"]) == list(range(300))
    assert sum(frame["key"].n_unique() for frame in found) == 17
    assert all(frame["n"].is_sorted() for frame in found)
    assert buckets.read("orders", 0, ["1"])["n"].is_between(100, 199).all()
    assert sum(buckets.rows.values()) == 300


def test_keys_of_another_width_lie_in_the_same_bucket(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    buckets = Buckets(tmp_path / "in", 7, piece_bytes=10**6)
    for name, kind in (("narrow", pl.Int32), ("wide", pl.Int64)):
        pl.DataFrame({"key": range(50)}, schema={"key": kind}).write_parquet(tmp_path / f"{name}.parquet")
        buckets.add(name, "", tmp_path / f"{name}.parquet", "key", None)
    for bucket in range(7):
        narrow, wide = (buckets.read(name, bucket, [""])["key"].to_list() for name in ("narrow", "wide"))
        assert narrow == wide


def test_a_file_is_read_in_pieces_of_about_the_size_that_is_asked_for(tmp_path: Path) -> None:
    pl.DataFrame({"a": range(1000), "b": range(1000)}).write_parquet(
        tmp_path / "t.parquet", row_group_size=64
    )
    found = list(pieces(tmp_path / "t.parquet", ["b"], 800))
    assert [frame.height for frame in found] == [100] * 10
    assert [b for frame in found for b in frame["b"]] == list(range(1000))


def test_a_part_is_read_by_columns(tmp_path: Path) -> None:
    file = write_part(pl.DataFrame({"a": [1], "b": ["x"]}), tmp_path / "p.arrow")
    assert read_part(file, ["b"]).to_dict(as_series=False) == {"b": ["x"]}
