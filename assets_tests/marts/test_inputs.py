"""How files become the tables that dbt reads."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from my_platform.marts.errors import MartError
from my_platform.marts.inputs import lay_out
from my_platform.marts.manifest import MartRead

COLUMNS = {"partition_day": "date", "amount": "double", "at": "timestamp"}
READ = MartRead("validated/payments", ("platform", "payments"), COLUMNS)
NOON = datetime(2018, 4, 1, 12)


def written(path: Path, **columns: Any) -> Path:
    pl.DataFrame({"amount": [1.0], "at": [NOON]} | columns).write_parquet(path)
    return path


def laid_out(folder: Path, files: Mapping[str, Path], read: MartRead = READ) -> list[tuple[Any, ...]]:
    database = folder / "work.duckdb"
    lay_out(database, folder / "inputs", {"payments": read}, {"payments": files}, ["2018-04-01"])
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute("FROM platform.payments ORDER BY ALL").fetchall()


def test_rows_get_the_day_of_their_file(tmp_path: Path) -> None:
    day_in_file = written(tmp_path / "a", amount=[2.0], partition_day=[date(1999, 1, 1)])
    rows = laid_out(tmp_path, {"2018-04-01": written(tmp_path / "b"), "2018-04-03": day_in_file})
    assert rows == [(date(2018, 4, 1), 1.0, NOON), (date(2018, 4, 3), 2.0, NOON)]


def test_each_file_is_read_with_its_own_types_and_columns(tmp_path: Path) -> None:
    whole = written(tmp_path / "a", amount=[1])
    fractional = written(tmp_path / "b", at=[NOON], amount=[1.5], more=["x"])
    assert [row[1] for row in laid_out(tmp_path, {"2018-04-01": whole, "2018-04-02": fractional})] == [
        1.0,
        1.5,
    ]


def test_a_time_with_a_zone_becomes_utc(tmp_path: Path) -> None:
    zoned = written(tmp_path / "a", at=[NOON.replace(tzinfo=UTC)])
    assert laid_out(tmp_path, {"2018-04-01": zoned})[0][2] == NOON


def test_an_input_without_files_is_empty_and_typed(tmp_path: Path) -> None:
    assert laid_out(tmp_path, {}) == []
    with duckdb.connect(str(tmp_path / "work.duckdb"), read_only=True) as connection:
        described = connection.execute("DESCRIBE platform.payments").fetchall()
    assert [row[1] for row in described] == ["DATE", "DOUBLE", "TIMESTAMP"]


def test_a_path_that_looks_like_a_pattern_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "home [1]*?"
    folder.mkdir()
    assert len(laid_out(tmp_path, {"2018-04-01": written(folder / "it's.parquet")})) == 1


def test_a_table_without_days_is_read_whole(tmp_path: Path) -> None:
    read = replace(READ, partitioned=False, columns={"amount": "double"})
    assert laid_out(tmp_path, {"": written(tmp_path / "a")}, read) == [(1.0,)]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "has the key ''; expected days"),
        ("2018-4-1", "is not a day"),
        ("2018-02-30", "is not a day"),
        ("1' OR 1=1 --", "is not a day"),
    ],
)
def test_a_key_that_is_no_day_is_refused(tmp_path: Path, key: str, message: str) -> None:
    with pytest.raises(MartError, match=message):
        laid_out(tmp_path, {key: written(tmp_path / "a")})


def test_a_missing_column_is_named_with_its_file(tmp_path: Path) -> None:
    pl.DataFrame({"at": [NOON]}).write_parquet(tmp_path / "short")
    with pytest.raises(
        MartError, match=r'input payments \(validated/payments\) of 2018-04-02, file .*short: .*"amount"'
    ):
        laid_out(tmp_path, {"2018-04-01": written(tmp_path / "a"), "2018-04-02": tmp_path / "short"})


def test_an_input_has_to_be_given_unless_it_is_optional(tmp_path: Path) -> None:
    with pytest.raises(MartError, match="no files were given for payments"):
        lay_out(tmp_path / "a.duckdb", tmp_path / "a", {"payments": READ}, {}, ["2018-04-01"])
    lay_out(
        tmp_path / "b.duckdb", tmp_path / "b", {"payments": replace(READ, at_least=0)}, {}, ["2018-04-01"]
    )
