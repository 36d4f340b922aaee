"""The private database that dbt finds: the given files as typed views, and no more."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from my_platform.marts.errors import MartError
from my_platform.marts.manifest import DAY_COLUMN, MartRead
from my_platform.marts.parquet_views import WHOLE, checked_day, identifier, select_file, select_nothing

Inputs = Mapping[str, Mapping[str, Path]]
"""Table → day, or ``""`` for a table that is not cut into days → local Parquet file."""


def lay_out(
    database: Path,
    folder: Path,
    reads: Mapping[str, MartRead],
    inputs: Inputs,
    days: Sequence[str],
    limits: Mapping[str, str] | None = None,
) -> None:
    """Make the database of one call of dbt.

    Each input becomes a view under the name by which the SQL knows it, with its declared columns cast to
    their declared types; one without files is an empty view. Each file is its own part of the view: DuckDB
    would read a list of files with the types of the first, and 1.5 in the second could come out as 2.
    ``platform.requested_days`` (partition_day), ``platform.given_files`` (path) and ``platform.limits`` (name, value)
    tell ``dbt_project.yml`` what the call is for.

    Args:
        database: the file to make.
        folder: where the files are linked, under names of days.
        reads: the inputs by name.
        inputs: their files.
        days: the days that will be read back.
        limits: settings of DuckDB under which dbt is to work, such as memory_limit.

    Raises:
        MartError: an input was not given, has the wrong keys, or a file lacks a column or cannot be read.
    """
    with duckdb.connect(str(database), config={"threads": 1, **(limits or {})}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE SCHEMA platform")
        connection.execute("CREATE TABLE platform.given_files (path VARCHAR)")
        connection.execute("CREATE TABLE platform.limits (name VARCHAR, value VARCHAR)")
        for limit in (limits or {}).items():
            connection.execute("INSERT INTO platform.limits VALUES (?, ?)", limit)
        connection.execute("CREATE TABLE platform.requested_days (partition_day DATE)")
        connection.execute("INSERT INTO platform.requested_days SELECT unnest(CAST(? AS DATE[]))", [days])
        for name, read in reads.items():
            if name not in inputs and read.at_least > 0:
                raise MartError(f"no files were given for {name} ({read.asset}); give {{}} if there are none")
            links = _linked(folder / name, name, read, inputs.get(name, {}))
            connection.execute(
                "INSERT INTO platform.given_files SELECT unnest(CAST(? AS VARCHAR[]))",
                [[str(link) for link in links.values()]],
            )
            selects = [_select(connection, name, read, day, link) for day, link in links.items()]
            schema, table = map(identifier, read.relation)
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            query = " UNION ALL ".join(selects) or select_nothing(read.columns)
            connection.execute(f"CREATE VIEW {schema}.{table} AS {query}")


def _linked(folder: Path, name: str, read: MartRead, files: Mapping[str, Path]) -> dict[str, Path]:
    """Links by day, in order. A file's own path could hold what DuckDB takes for a pattern."""
    folder.mkdir(parents=True)
    links: dict[str, Path] = {}
    for day in sorted(files):
        if (day == WHOLE) == read.partitioned:
            expected = "days" if read.partitioned else 'the one key ""'
            raise MartError(f"input {name} ({read.asset}) has the key {day!r}; expected {expected}")
        links[day] = folder / f"{checked_day(day) if day else 'whole'}.parquet"
        links[day].symlink_to(files[day].absolute())
    return links


def _select(connection: duckdb.DuckDBPyConnection, name: str, read: MartRead, day: str, link: Path) -> str:
    select = select_file(link, day, read.columns, DAY_COLUMN)
    try:
        connection.execute(f"DESCRIBE {select}")
    except duckdb.Error as error:
        raise MartError(
            f"input {name} ({read.asset}){f' of {day}' if day else ''}, file {link.readlink()}: {error}"
        ) from error
    return select
