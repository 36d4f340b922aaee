"""The database that analysts open."""

import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from my_platform.marts.errors import MartError
from my_platform.marts.publish import publish_database

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


def read(path: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(query).fetchall()


def test_a_view_holds_the_rows_of_all_days(tmp_path: Path) -> None:
    days = {"2018-04-01": written(tmp_path, "a", n=[1, 2]), "2018-04-02": written(tmp_path, "b", n=[3])}
    published = publish_database(tmp_path / "analytics.duckdb", {"counts": days})
    assert published == ("counts",)
    assert read(
        tmp_path / "analytics.duckdb", "SELECT partition_day, sum(n) FROM marts.counts GROUP BY 1 ORDER BY 1"
    ) == [
        (date(2018, 4, 1), 3),
        (date(2018, 4, 2), 3),
    ]


def test_days_written_by_older_code_stand_beside_newer_ones(tmp_path: Path) -> None:
    days = {"2018-04-01": written(tmp_path, "a", n=[1]), "2018-04-02": written(tmp_path, "b", m=[0.5], n=[2])}
    publish_database(tmp_path / "analytics.duckdb", {"counts": days})
    assert read(tmp_path / "analytics.duckdb", "SELECT n, m FROM marts.counts ORDER BY n") == [
        (1, None),
        (2, 0.5),
    ]


def test_an_open_database_stays_as_it_was_while_another_is_published(tmp_path: Path) -> None:
    path, count = tmp_path / "analytics.duckdb", "SELECT count(*) FROM marts.counts\n"
    day = written(tmp_path, "a", n=[1])
    publish_database(path, {"counts": {"2018-04-01": day}})
    arguments = [sys.executable, "-c", ANALYST, str(path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as analyst:
        assert analyst.stdin is not None
        assert analyst.stdout is not None

        def ask() -> str:
            analyst.stdin.write(count)
            analyst.stdin.flush()
            return analyst.stdout.readline()

        assert ask() == "1\n"
        publish_database(path, {"counts": {"2018-04-01": day, "2018-04-02": day}})
        assert ask() == "1\n"
        assert read(path, count) == [(2,)]
        analyst.stdin.close()
    assert analyst.returncode == 0


def test_a_database_that_cannot_be_made_leaves_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "analytics.duckdb"
    publish_database(path, {"counts": {"2018-04-01": written(tmp_path, "a", n=[1])}})
    with pytest.raises(MartError, match="counts cannot be published"):
        publish_database(path, {"counts": {"2018-04-01": tmp_path / "gone.parquet"}})
    assert read(path, "SELECT n FROM marts.counts") == [(1,)]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.parquet", "analytics.duckdb"]


def test_a_table_without_days_has_no_day_column(tmp_path: Path) -> None:
    publish_database(
        tmp_path / "analytics.duckdb", {"terminals": {"": written(tmp_path, "a", TERMINAL_ID=[7])}}
    )
    assert read(tmp_path / "analytics.duckdb", "FROM marts.terminals") == [(7,)]


def test_a_mart_without_files_is_an_empty_view_with_its_descriptions(tmp_path: Path, project: Any) -> None:
    mart = project.marts()["daily_fraud_by_terminal"]
    path = tmp_path / "analytics.duckdb"
    assert publish_database(path, {mart.name: {}, "unknown": {}}, [mart]) == (mart.name,)
    assert read(path, f"FROM marts.{mart.name}") == []
    assert read(path, "SELECT comment FROM duckdb_views() WHERE NOT internal") == [(mart.description,)]
    comments = "SELECT comment FROM duckdb_columns() WHERE NOT internal AND column_name = 'fraud_rate'"
    assert read(path, comments) == [("frauds / labelled.",)]


def test_a_database_named_as_its_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MartError, match=r"choose another name, such as .*analytics\.duckdb"):
        publish_database(tmp_path / "marts.duckdb", {})


def test_a_key_that_is_no_day_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MartError, match="is not a day"):
        publish_database(tmp_path / "analytics.duckdb", {"counts": {"april": written(tmp_path, "a", n=[1])}})
