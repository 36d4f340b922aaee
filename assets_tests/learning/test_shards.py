"""Training sets that are read in shards: which days and columns are read of a file, and what is fitted on them."""

from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from assets_tests.learning.nets.rows import NAMES, SMALL, changed, training_set
from my_platform.errors import Refused
from my_platform.learning import net_fitting
from my_platform.learning.nets import fit
from my_platform.learning.nets.compute import Compute
from my_platform.learning.nets.fit import Recipe
from my_platform.learning.nets.net import Net, predict
from my_platform.learning.shards import DaysShard, LabelledRows

FIRST = date(2025, 1, 1)
ROWS = training_set()


def table() -> pl.DataFrame:
    """The rows as the platform stores them: by time, with nulls where something is missing."""
    days = pl.Series(
        [datetime.combine(FIRST, datetime.min.time()) + timedelta(days=int(d)) for d in ROWS.days]
    )
    features = pl.DataFrame(ROWS.features, schema=list(NAMES)).fill_nan(None)
    return features.with_columns(at=days, label=pl.Series(ROWS.labels), more=pl.lit("not asked for"))


def stored(folder: Path) -> Path:
    path = folder / "rows.parquet"
    table().write_parquet(path, compression="uncompressed", row_group_size=200)
    return path


def labelled(rows: pl.LazyFrame, version: str = "v") -> LabelledRows:
    return LabelledRows(rows, version, NAMES, "label", "at")


def fitted(rows: LabelledRows, recipe: Recipe) -> Net:
    return net_fitting.fit_tabm_on(rows, recipe.as_json(), "cpu")


@pytest.fixture
def few_rows_a_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "ROWS_OF_A_SHARD", 400)


def test_shards_hold_all_days_but_the_last_once() -> None:
    shards, held_out = labelled(table().lazy()).shards(0.1, 400)
    assert [shard.first for shard in shards] == [FIRST, *(shard.end for shard in shards[:-1])]
    assert shards[-1].end == held_out.first
    labels = np.concatenate([shard.read()[1] for shard in (*shards, held_out)])
    assert (labels == ROWS.labels).all()
    assert all(len(shard.read()[1]) <= 400 for shard in shards)
    assert len({shard.name for shard in (*shards, held_out)}) == len(shards) + 1


def test_a_day_with_more_rows_than_a_shard_is_a_shard_of_its_own() -> None:
    shards, _ = labelled(table().lazy()).shards(0.1, 1)
    assert {(shard.end - shard.first).days for shard in shards} == {1}


def test_of_a_file_only_the_columns_and_row_groups_of_its_days_are_read(folder: Path) -> None:
    path = stored(folder)
    shard = DaysShard(labelled(pl.scan_parquet(path)), FIRST + timedelta(days=8), FIRST + timedelta(days=11))
    features, labels = shard.read()
    data, footer = bytearray(path.read_bytes()), pq.ParquetFile(path).metadata
    spoiled = 0
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        columns = [group.column(at) for at in range(group.num_columns)]
        (at,) = (column for column in columns if column.path_in_schema == "at")
        of_shard = at.statistics.max.date() >= shard.first and at.statistics.min.date() < shard.end
        for column in columns:
            if not of_shard or column.path_in_schema == "more":
                offset = column.dictionary_page_offset or column.data_page_offset
                data[offset : offset + column.total_compressed_size] = b"\xff" * column.total_compressed_size
                spoiled += 1
    path.write_bytes(data)
    again = shard.read()
    assert spoiled > footer.num_row_groups
    np.testing.assert_array_equal(again[0], features)
    np.testing.assert_array_equal(again[1], labels)


def test_rows_without_a_label_are_left_out() -> None:
    some = table().with_columns(label=pl.when(pl.int_range(pl.len()) % 2 == 0).then("label"))
    shards, held_out = labelled(some.lazy()).shards(0.1, 400)
    assert sum(len(shard.read()[1]) for shard in (*shards, held_out)) == ROWS.labels[::2].size


@pytest.mark.usefixtures("few_rows_a_shard")
def test_more_rows_than_the_recipe_keeps_in_memory_are_fitted_on_in_shards(folder: Path) -> None:
    rows = labelled(pl.scan_parquet(stored(folder)))
    whole, streamed = fitted(rows, changed()), fitted(rows, changed(rows_in_memory=len(ROWS.labels) - 1))
    assert "shards" not in whole.about
    assert streamed.about["shards"] > 3
    losses = [net.about["history"][net.about["best_epoch"]]["stopping_loss"] for net in (whole, streamed)]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
    assert predict(streamed, ROWS.features, Compute()).sum() == pytest.approx(ROWS.labels.sum(), rel=0.2)


@pytest.mark.usefixtures("few_rows_a_shard")
def test_a_set_that_does_not_fit_on_the_device_is_read_in_shards(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Compute, "free_bytes", lambda _: 1_000)
    assert fitted(labelled(pl.scan_parquet(stored(folder))), changed()).about["shards"] > 3


def test_rows_that_fit_give_the_net_that_their_arrays_give(folder: Path) -> None:
    found = fitted(labelled(pl.scan_parquet(stored(folder))), SMALL)
    days = table()["at"].dt.date()
    expected = net_fitting.fit_tabm(table().select(NAMES), ROWS.labels, days, SMALL.as_json(), "cpu")
    assert found.digest == expected.digest


def test_rows_of_one_class_are_refused_in_shards_too() -> None:
    one = table().with_columns(label=pl.lit(False))
    with pytest.raises(Refused, match="expected rows of both classes"):
        fitted(labelled(one.lazy()), changed(rows_in_memory=1))
