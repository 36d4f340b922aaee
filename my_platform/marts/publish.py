"""One DuckDB file for analysts, made new and swapped in whole."""

import contextlib
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from my_platform.marts.errors import MartError
from my_platform.marts.manifest import DAY_COLUMN, Mart
from my_platform.marts.parquet_views import WHOLE, identifier, literal, select_file, select_nothing

SCHEMA = "marts"


def publish_database(
    path: Path, tables: Mapping[str, Mapping[str, Path]], marts: Sequence[Mart] = ()
) -> tuple[str, ...]:
    """Write a DuckDB file of views over Parquet files, and put it in the place of ``path`` in one step.

    DuckDB gives a file to one process, or to many that only read. So nothing ever writes to ``path``: whoever
    has it open keeps the file as it was, and the next one to open it finds the new one. It is read-only for
    everybody, since a database that an analyst opened to write would shut out the others.

    Args:
        path: the database; its folder is made.
        tables: view → day (or ``""`` for a table without days) → absolute path of a Parquet file. Each row
            gets its file's day as ``partition_day``. Columns are matched by name, and one that a file lacks
            is null there.
        marts: what the views are, where they are marts: their descriptions become comments, and a mart with
            no file yet is an empty view. Any other table without files gets no view.

    Returns:
        The names of the views.

    Raises:
        MartError: a file cannot be read, or the database cannot have this name; ``path`` is as it was.
    """
    known = {mart.name: mart for mart in marts}
    if path.name.split(".")[0].lower() == SCHEMA:
        raise MartError(
            f"{path}: DuckDB calls a database by its file's name, and one named as its schema makes "
            f"{SCHEMA}.<table> ambiguous; choose another name, such as {path.with_name('analytics.duckdb')}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{secrets.token_hex(8)}-{path.name}")
    try:
        with duckdb.connect(str(staged), config={"threads": 1}) as connection:
            connection.execute(f"CREATE SCHEMA {SCHEMA}")
            written = tuple(
                name
                for name, files in tables.items()
                if _create_view(connection, name, files, known.get(name))
            )
        with open(staged, "rb") as file:
            os.fsync(file.fileno())
        staged.chmod(0o444)
        os.replace(staged, path)
    finally:
        for left in (staged, staged.with_name(f"{staged.name}.wal")):
            with contextlib.suppress(FileNotFoundError):
                left.unlink()
    return written


def _create_view(
    connection: duckdb.DuckDBPyConnection, name: str, files: Mapping[str, Path], mart: Mart | None
) -> bool:
    if WHOLE in files and len(files) > 1:
        raise MartError(
            f'{name} has a file without a day (key "") beside files of days; give one or the other'
        )
    view = f"{SCHEMA}.{identifier(name)}"
    selects = [select_file(file.absolute(), day, None, DAY_COLUMN) for day, file in sorted(files.items())]
    if selects:
        query = " UNION ALL BY NAME ".join(selects)
    elif mart:
        query = select_nothing({column: kind for column, (kind, _) in mart.columns.items()})
    else:
        return False
    try:
        connection.execute(f"CREATE VIEW {view} AS {query}")
    except duckdb.Error as error:
        raise MartError(f"{name} cannot be published: {error}") from error
    if mart:
        connection.execute(f"COMMENT ON VIEW {view} IS {literal(mart.description)}")
        present = {row[0] for row in connection.execute(f"DESCRIBE {view}").fetchall()}
        for column, (_, description) in mart.columns.items():
            if column in present:
                connection.execute(f"COMMENT ON COLUMN {view}.{identifier(column)} IS {literal(description)}")
    return True
