"""One DuckDB file for analysts, made beside the last one and swapped in whole.

It holds the rows themselves, not views of stored files: so it stays whole whatever becomes of those, works
the same over a lake in a bucket, may be copied elsewhere, and answers ten to fifty times faster. Only days
that have another data version than in the last file are written, which costs less than the views did.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from my_platform.marts.errors import MartError
from my_platform.marts.manifest import DAY_COLUMN, Column
from my_platform.marts.parquet_views import (
    WHOLE,
    identifier,
    literal,
    select_file,
    select_nothing,
)

SCHEMA = "marts"
VERSIONS = "platform.data_versions"


@dataclass(frozen=True)
class Published:
    """A table for analysts.

    Attributes:
        versions: data version by day, or by ``""`` for a table without days.
        file: the local Parquet file of a day. Each row gets its file's day as ``partition_day``. Columns are
            matched by name, and one that a file lacks is null there.
        columns: type and description by name, for comments, and for a table that has no rows yet.
    """

    name: str
    versions: Mapping[str, str]
    file: Callable[[str], Path]
    description: str = ""
    columns: Mapping[str, Column] = field(default_factory=dict)


def publish_database(path: Path, tables: Sequence[Published], limits: Mapping[str, str] | None = None) -> int:
    """Put a DuckDB file with these tables, and no other, in the place of ``path`` in one step.

    DuckDB gives a file to one process, or to many that only read. So nothing ever writes to ``path``: whoever
    has it open keeps the file as it was, and the next one to open it finds the new one. It is read-only for
    everybody, since a database that an analyst opened to write would shut out the others.

    Args:
        limits: settings of DuckDB under which it works, such as memory_limit.

    Returns:
        How many days of tables were read from their files.

    Raises:
        MartError: a file cannot be read, or the database cannot have this name; ``path`` is as it was.
    """
    if path.name.split(".")[0].lower() == SCHEMA:
        raise MartError(
            f"{path}: DuckDB calls a database by its file's name, and one named as its schema makes "
            f"{SCHEMA}.<table> ambiguous; choose another name, such as {path.with_name('analytics.duckdb')}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError, duckdb.Error), _staged(path) as staged:
        # Where there is none yet, or the last one is of no use, it is made of nothing.
        shutil.copyfile(path, staged)
        return _write(staged, path, tables, limits or {})
    try:
        with _staged(path) as staged:
            return _write(staged, path, tables, limits or {})
    except duckdb.Error as error:
        raise MartError(f"{path} cannot be written: {error}") from error


@contextlib.contextmanager
def _staged(path: Path) -> Iterator[Path]:
    staged = path.with_name(f".{secrets.token_hex(8)}-{path.name}")
    try:
        yield staged
    finally:
        for left in (staged, staged.with_name(f"{staged.name}.wal")):
            with contextlib.suppress(FileNotFoundError):
                left.unlink()


def _write(staged: Path, path: Path, tables: Sequence[Published], limits: Mapping[str, str]) -> int:
    with duckdb.connect(str(staged), config={"threads": 1, **limits}) as connection:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}; CREATE SCHEMA IF NOT EXISTS platform")
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {VERSIONS} "
            f"(table_name VARCHAR, {DAY_COLUMN} VARCHAR, data_version VARCHAR)"
        )
        connection.execute("BEGIN")
        _forget(connection, tables)
        written = sum(_bring(connection, table) for table in tables)
        connection.execute("COMMIT; CHECKPOINT")
    with open(staged, "rb") as file:
        os.fsync(file.fileno())
    staged.chmod(0o444)
    os.replace(staged, path)
    return written


def _forget(connection: duckdb.DuckDBPyConnection, tables: Sequence[Published]) -> None:
    """Drop the tables that are not published any more."""
    listed = connection.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = ?", [SCHEMA]
    )
    for name in {row[0] for row in listed.fetchall()} - {table.name for table in tables}:
        connection.execute(f"DROP TABLE {_named(name)}")
        connection.execute(f"DELETE FROM {VERSIONS} WHERE table_name = ?", [name])


def _bring(connection: duckdb.DuckDBPyConnection, table: Published) -> int:
    """Give a table the rows of its days as they are now; how many days were read."""
    if WHOLE in table.versions and len(table.versions) > 1:
        raise MartError(
            f'{table.name} has a file without a day (key "") beside files of days; give one or the other'
        )
    found = connection.execute(
        f"SELECT {DAY_COLUMN}, data_version FROM {VERSIONS} WHERE table_name = ?", [table.name]
    )
    had = dict(found.fetchall())
    gone = [day for day in had if table.versions.get(day) != had[day]]
    new = [day for day in sorted(table.versions) if had.get(day) != table.versions[day]]
    if had and not gone and not new:
        return 0
    try:
        if not had or WHOLE in (*had, *table.versions) or not _fits(connection, table, new):
            new = sorted(table.versions)
            connection.execute(f"CREATE OR REPLACE TABLE {_named(table.name)} AS {_rows_of(table, new)}")
        else:
            for day in gone:
                connection.execute(
                    f"DELETE FROM {_named(table.name)} WHERE {DAY_COLUMN} = CAST(? AS DATE)", [day]
                )
            if new:
                connection.execute(f"INSERT INTO {_named(table.name)} BY NAME {_rows_of(table, new)}")
        _comment(connection, table)
    except duckdb.Error as error:
        raise MartError(f"{table.name} cannot be published: {error}") from error
    connection.execute(f"DELETE FROM {VERSIONS} WHERE table_name = ?", [table.name])
    connection.execute(
        f"INSERT INTO {VERSIONS} SELECT ?, unnest(CAST(? AS VARCHAR[])), unnest(CAST(? AS VARCHAR[]))",
        [table.name, list(table.versions), list(table.versions.values())],
    )
    return len(new)


def _fits(connection: duckdb.DuckDBPyConnection, table: Published, days: Sequence[str]) -> bool:
    """Whether the columns of days are columns of the table that is there, with the same types."""
    there = _describe(connection, f"FROM {_named(table.name)}")
    found = _describe(connection, _rows_of(table, days)) if days else {}
    return all(there.get(name) == kind for name, kind in found.items())


def _rows_of(table: Published, days: Sequence[str]) -> str:
    selects = [select_file(table.file(day).absolute(), day, None, DAY_COLUMN) for day in days]
    return " UNION ALL BY NAME ".join(selects) or select_nothing(
        {n: kind for n, (kind, _) in table.columns.items()}
    )


def _describe(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, str]:
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {query}").fetchall()}


def _comment(connection: duckdb.DuckDBPyConnection, table: Published) -> None:
    name, present = _named(table.name), _describe(connection, f"FROM {_named(table.name)}")
    connection.execute(f"COMMENT ON TABLE {name} IS {literal(table.description)}")
    for column, (_, description) in table.columns.items():
        if column in present:
            connection.execute(f"COMMENT ON COLUMN {name}.{identifier(column)} IS {literal(description)}")


def _named(table: str) -> str:
    return f"{SCHEMA}.{identifier(table)}"
