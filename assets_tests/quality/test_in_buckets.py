"""A partition that does not fit into memory is validated as one that does."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pandera.polars as pa
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from my_platform.errors import MemoryLimitError, PlatformError, Refused
from my_platform.incremental.content import data_version
from my_platform.incremental.declare import Asset, Batch, Produced
from my_platform.incremental.memory import Memory
from my_platform.incremental.parts import version_of_parts
from my_platform.quality import in_buckets
from my_platform.quality.contracts import Contract
from my_platform.quality.profiles import profile_table
from my_platform.quality.tables import raw_table, validate, validated_table

DAY = "2026-01-07"
START = datetime(2026, 1, 7)
SCHEMA = {"ID": pl.Int64, "AT": pl.Datetime("us"), "CENTS": pl.Int64}


class Orders(pa.DataFrameModel):
    """Orders."""

    ID: int = pa.Field(unique=True)
    AT: datetime
    CENTS: int = pa.Field(ge=0, nullable=True)

    class Config:
        strict = True


def contract(**more: Any) -> Contract:
    return Contract(Orders, sort_by=("AT", "ID"), time="AT", **{"apart": "ID", "most_bad_share": 1.0, **more})


class Landed:
    """A batch of one day, as it landed."""

    keys = (DAY,)
    asset = "validated/orders"

    def __init__(self, folder: Path, table: pl.DataFrame, limit: int | None) -> None:
        self.table, self.file = table, folder / "landed.parquet"
        self.memory = Memory(limit, folder / "spill")
        table.write_parquet(self.file, row_group_size=400)

    def landed(self, key: str) -> list[tuple[str, bytes]]:
        return [("landing/orders/2026-01-07.parquet", self.file.read_bytes())]

    def inputs(self, read: str, key: str) -> Mapping[str, pl.DataFrame]:
        return {key: self.table}

    def files(self, read: str, key: str) -> Mapping[str, str]:
        return {key: str(self.file)}

    def row_counts(self, read: str, key: str) -> Mapping[str, int]:
        return {key: self.table.height}

    def types(self, read: str) -> Mapping[str, Any]:
        return dict(self.table.schema)

    def origin(self, read: str, key: str) -> list[str]:
        return ["landed.parquet"]

    def released(self, key: str) -> frozenset[str]:
        return frozenset()


class Uneven(Memory):
    """Memory into which nothing fits as a whole, and buckets of any size."""

    def fits(self, needed_bytes: float) -> bool:
        return False

    def require(self, asset: str, partition: str, needed_bytes: float, why: str) -> None:
        pass


def validated(batch: Landed, found: Contract) -> tuple[str, Produced | Exception, pl.DataFrame]:
    """The data version of the valid rows, what was made, and the rows."""
    for _, made in asset(found).compute(cast("Batch", batch)):
        if isinstance(made, Exception):
            return "", made, pl.DataFrame()
        if made.parts is None:
            return data_version(made.table), made, made.table
        return version_of_parts(made.parts), made, pl.concat(list(made.parts.frames()))
    raise AssertionError


def asset(found: Contract) -> Asset:
    return validated_table("validated/orders", raw_table("raw/orders", found, source="orders"), found)


rows = st.lists(
    st.tuples(
        st.integers(0, 6) | st.none(),
        st.integers(-2, 30).map(lambda hours: START + timedelta(hours=hours)),
        st.integers(-2, 5) | st.none(),
    ),
    min_size=1,
    max_size=15,
)


@given(rows)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_same_rows_are_valid_and_the_same_in_quarantine(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[Any, ...]]
) -> None:
    table = pl.DataFrame(drawn, schema=SCHEMA, orient="row")
    expected = validate(table, contract(), DAY)
    assert expected.quarantined is not None
    batch = Landed(tmp_path_factory.mktemp("day"), table, limit=1)
    # Of so few rows, most of them may have the same key.
    batch.memory = Uneven(2_000, batch.memory.spill)
    with patch.object(in_buckets, "_QUARANTINED_SHARE", 1_000):
        version, made, valid = validated(batch, contract())
    assert isinstance(made, Produced)
    assert made.metadata["computed"] == "in parts by ID"
    assert version == data_version(expected.table)
    assert valid.equals(expected.table)
    told = [name for name in expected.quarantined.columns if name not in ("file", "contract_version")]
    assert made.quarantined is not None
    assert_frame_equal(made.quarantined.select(told), expected.quarantined.select(told))
    same = ("landed_rows", "valid_rows", "quarantined_rows")
    assert [made.metadata[name] for name in same] == [expected.metadata[name] for name in same]
    assert not list(batch.memory.spill.rglob("*.arrow"))


def many(bad: int = 0) -> pl.DataFrame:
    columns = {
        "ID": range(1_000),
        "AT": [START + timedelta(seconds=80 * n) for n in range(1_000)],
        "CENTS": [-1 if n < bad else n for n in range(1_000)],
    }
    return pl.DataFrame(columns, schema=SCHEMA)


def test_a_day_in_little_room_comes_in_parts(tmp_path: Path) -> None:
    version, made, valid = validated(Landed(tmp_path, many(), 30_000), contract())
    assert isinstance(made, Produced)
    assert made.parts is not None
    assert len(made.parts.files) > 1
    assert version == data_version(many())
    assert valid.height == 1_000


def test_too_many_bad_rows_refuse_the_day_with_their_number(tmp_path: Path) -> None:
    _, refused, _ = validated(Landed(tmp_path, many(bad=200), 50_000), contract(most_bad_share=0.1))
    assert isinstance(refused, Refused)
    assert str(refused).startswith("landed.parquet: 200 of 1000 rows break the contract, more than 10%")
    assert refused.rows.height > 0


def test_bad_rows_that_do_not_fit_are_told_unless_the_day_is_refused(tmp_path: Path) -> None:
    _, error, _ = validated(Landed(tmp_path, many(bad=1_000), 20_000), contract())
    assert isinstance(error, MemoryLimitError)
    assert "for its rows in quarantine" in str(error)
    _, refused, _ = validated(Landed(tmp_path, many(bad=1_000), 20_000), contract(most_bad_share=0.1))
    assert isinstance(refused, Refused)
    assert "1000 of 1000 rows break the contract" in str(refused)
    assert refused.rows.height < 1_000


def test_without_a_column_to_take_it_apart_by_the_day_is_not_read(tmp_path: Path) -> None:
    _, error, _ = validated(Landed(tmp_path, many(), 30_000), contract(apart=None))
    assert isinstance(error, MemoryLimitError)
    assert "validated/orders 2026-01-07 needs about 0.1MB, as its contract says no column in `apart`" in str(
        error
    )
    assert "Set MY_PLATFORM_MEMORY_LIMIT to" in str(error)


def test_a_contract_is_not_taken_apart_by_another_column_than_the_unique_one() -> None:
    with pytest.raises(PlatformError, match="cannot be taken apart by CENTS: ID is unique over all rows"):
        contract(apart="CENTS")


def test_a_landed_file_that_does_not_fit_is_read_in_parts(tmp_path: Path) -> None:
    table = pl.concat([many(), many()]).with_columns(pl.col("AT").cast(pl.Datetime("ns")))
    batch = Landed(tmp_path, table, 150_000)
    ((_, (value, made)),) = first(raw_table("raw/orders", contract(), source="orders"), batch)
    assert made.parts is not None
    assert made.metadata["computed"] == f"in {len(made.parts.files)} parts"
    ((_, whole),) = first(raw_table("raw/orders", contract(), source="orders"), Landed(tmp_path, table, None))
    assert value == whole[0]
    assert made.parts.schema == whole[1].table.schema


def first(asset: Asset, batch: Landed) -> list[tuple[str, tuple[str, Produced]]]:
    found = []
    for key, made in asset.compute(cast("Batch", batch)):
        assert isinstance(made, Produced), made
        version = data_version(made.table) if made.parts is None else version_of_parts(made.parts)
        found.append((key, (version, made)))
    return found


def test_a_time_out_of_range_in_a_later_part_refuses_the_file(tmp_path: Path) -> None:
    late = many().with_columns(
        pl.col("AT").cast(pl.Datetime("ns")) + pl.duration(nanoseconds=pl.col("ID") // 999)
    )
    ((_, refused),) = raw_table("raw/orders", contract(), source="orders").compute(
        cast("Batch", Landed(tmp_path, late, 200_000))
    )
    assert isinstance(refused, Refused)
    assert "column AT has times finer than us" in str(refused)


def test_a_profile_made_column_by_column_is_that_of_the_table(tmp_path: Path) -> None:
    valid = validated_table(
        "validated/orders", raw_table("raw/orders", contract(), source="orders"), contract()
    )
    found = [
        first(profile_table(valid), Landed(tmp_path, many(), limit))[0][1][0] for limit in (None, 82_000)
    ]
    assert found[0] == found[1]


def test_what_a_column_of_a_profile_needs_is_told(tmp_path: Path) -> None:
    valid = validated_table(
        "validated/orders", raw_table("raw/orders", contract(), source="orders"), contract()
    )
    ((_, error),) = profile_table(valid).compute(cast("Batch", Landed(tmp_path, many(), 40_000)))
    assert isinstance(error, MemoryLimitError)
    assert "for its widest column" in str(error)
