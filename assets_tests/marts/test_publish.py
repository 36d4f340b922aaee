"""The database that analysts open."""

import subprocess
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from my_platform.marts.errors import MartError
from my_platform.marts.publish import Published, publish_database

# An analyst's own process: opens the database to read, and answers one query a line until it is told to stop.
ANALYST = """
import duckdb, sys
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    for query in sys.stdin:
        print(connection.execute(query).fetchall()[0][0], flush=True)
"""


def written(folder: Path, name: str, **columns: Any) -> Path:
    path = folder / f"{name}.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


def table(name: str, files: Mapping[str, Path], **more: Any) -> Published:
    """A table whose files have their own names as data versions."""
    return Published(name, {day: file.stem for day, file in files.items()}, files.__getitem__, **more)


def read(path: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "analytics.duckdb"


def test_a_table_holds_the_rows_of_all_days(path: Path, tmp_path: Path) -> None:
    days = {"2018-04-01": written(tmp_path, "a", n=[1, 2]), "2018-04-02": written(tmp_path, "b", n=[3])}
    assert publish_database(path, [table("counts", days)]) == 2
    assert read(path, "SELECT partition_day, sum(n) FROM marts.counts GROUP BY 1 ORDER BY 1") == [
        (date(2018, 4, 1), 3),
        (date(2018, 4, 2), 3),
    ]
    assert read(path, "FROM platform.data_versions ORDER BY ALL") == [
        ("counts", "2018-04-01", "a"),
        ("counts", "2018-04-02", "b"),
    ]


def test_only_the_days_that_changed_are_read(path: Path, tmp_path: Path) -> None:
    days = {"2018-04-01": written(tmp_path, "a", n=[1]), "2018-04-02": written(tmp_path, "b", n=[2])}
    publish_database(path, [table("counts", days)])
    days["2018-04-01"].unlink()
    days |= {"2018-04-02": written(tmp_path, "c", n=[30, 40]), "2018-04-03": written(tmp_path, "d", n=[5])}

    assert publish_database(path, [table("counts", days)]) == 2

    assert read(path, "SELECT n FROM marts.counts ORDER BY n") == [(1,), (5,), (30,), (40,)]


def test_a_day_that_was_withdrawn_is_gone(path: Path, tmp_path: Path) -> None:
    days = {"2018-04-01": written(tmp_path, "a", n=[1]), "2018-04-02": written(tmp_path, "b", n=[2])}
    publish_database(path, [table("counts", days)])
    del days["2018-04-01"]
    assert publish_database(path, [table("counts", days)]) == 0
    assert read(path, "SELECT n FROM marts.counts") == [(2,)]


def test_a_table_that_is_not_published_any_more_is_gone(path: Path, tmp_path: Path) -> None:
    day = {"2018-04-01": written(tmp_path, "a", n=[1])}
    publish_database(path, [table("counts", day), table("sums", day)])
    publish_database(path, [table("sums", day)])
    assert read(path, "SELECT DISTINCT table_name FROM platform.data_versions") == [("sums",)]
    with pytest.raises(duckdb.CatalogException):
        read(path, "FROM marts.counts")


def test_days_written_by_older_code_stand_beside_newer_ones(path: Path, tmp_path: Path) -> None:
    days = {"2018-04-01": written(tmp_path, "a", n=[1])}
    publish_database(path, [table("counts", days)])
    days["2018-04-02"] = written(tmp_path, "b", m=[0.5], n=[2])
    publish_database(path, [table("counts", days)])
    assert read(path, "SELECT n, m FROM marts.counts ORDER BY n") == [(1, None), (2, 0.5)]


def test_a_column_of_another_type_is_not_rounded_into_the_old_one(path: Path, tmp_path: Path) -> None:
    days = {"2018-04-01": written(tmp_path, "a", n=[1])}
    publish_database(path, [table("counts", days)])
    days["2018-04-02"] = written(tmp_path, "b", n=[1.5])
    publish_database(path, [table("counts", days)])
    assert read(path, "SELECT n FROM marts.counts ORDER BY n") == [(1.0,), (1.5,)]


def test_an_open_database_stays_as_it_was_while_another_is_published(path: Path, tmp_path: Path) -> None:
    count = "SELECT count(*) FROM marts.counts\n"
    day = written(tmp_path, "a", n=[1])
    publish_database(path, [table("counts", {"2018-04-01": day})])
    arguments = [sys.executable, "-c", ANALYST, str(path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as analyst:
        assert analyst.stdin is not None
        assert analyst.stdout is not None

        def ask() -> str:
            analyst.stdin.write(count)
            analyst.stdin.flush()
            return analyst.stdout.readline()

        assert ask() == "1\n"
        publish_database(path, [table("counts", {"2018-04-01": day, "2018-04-02": day})])
        assert ask() == "1\n"
        assert read(path, count) == [(2,)]
        analyst.stdin.close()
    assert analyst.returncode == 0


def test_a_database_that_cannot_be_made_leaves_the_last_one(path: Path, tmp_path: Path) -> None:
    publish_database(path, [table("counts", {"2018-04-01": written(tmp_path, "a", n=[1])})])
    with pytest.raises(MartError, match="counts cannot be published"):
        publish_database(path, [table("counts", {"2018-04-01": tmp_path / "gone.parquet"})])
    assert read(path, "SELECT n FROM marts.counts") == [(1,)]
    assert [file.name for file in path.parent.iterdir()] == ["analytics.duckdb"]


def test_a_broken_database_is_made_of_nothing(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database")
    publish_database(path, [table("counts", {"2018-04-01": written(tmp_path, "a", n=[1])})])
    assert read(path, "SELECT n FROM marts.counts") == [(1,)]


def test_a_table_without_days_has_no_day_column(path: Path, tmp_path: Path) -> None:
    for number in (7, 8):
        file = written(tmp_path, f"v{number}", TERMINAL_ID=[number])
        publish_database(path, [table("terminals", {"": file})])
        assert read(path, "FROM marts.terminals") == [(number,)]


def test_a_mart_without_files_is_an_empty_table_with_its_descriptions(path: Path, project: Any) -> None:
    mart = project.marts()["daily_fraud_by_terminal"]
    publish_database(path, [table(mart.name, {}, description=mart.description, columns=mart.columns)])
    assert read(path, f"FROM marts.{mart.name}") == []
    comments = "SELECT comment FROM duckdb_tables() WHERE NOT internal AND schema_name = 'marts'"
    assert read(path, comments) == [(mart.description,)]
    comments = "SELECT comment FROM duckdb_columns() WHERE NOT internal AND column_name = 'fraud_rate'"
    assert read(path, comments) == [("frauds / labelled.",)]


def test_a_database_named_as_its_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MartError, match=r"choose another name, such as .*analytics\.duckdb"):
        publish_database(tmp_path / "marts.duckdb", [])


def test_a_key_that_is_no_day_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(MartError, match="is not a day"):
        publish_database(path, [table("counts", {"april": written(tmp_path, "a", n=[1])})])
