"""Moving MLflow's store: where its artifacts lie, and its rows from a SQLite file into a PostgreSQL schema."""

from pathlib import Path

import sqlalchemy as sa

from my_platform.errors import PlatformError
from my_platform.learning.tracking import Tracker

# Where MLflow keeps the absolute place of files: table and column.
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
_REVISION = "alembic_version"


def relocate(engine: sa.Engine, old: str, new: str) -> None:
    """Tell a store that what lay below one URI lies below another one now."""
    with engine.begin() as connection:
        _relocate(connection, old, new)


def copy_store(database: Path, target: Tracker, old: str) -> int:
    """Make a server's store what a SQLite file is, in one transaction; the number of rows.

    Args:
        old: the URI below which artifacts lay; they lie where the target says.

    Raises:
        PlatformError: the server has runs of its own, or tables of another version.
    """
    target.client.search_experiments(max_results=1)
    source, server = sa.create_engine(f"sqlite:///{database}"), sa.create_engine(target.uri)
    try:
        tables, theirs = sa.MetaData(), sa.MetaData()
        tables.reflect(source)
        theirs.reflect(server)
        with source.connect() as reading, server.begin() as writing:
            _check(reading, writing, tables, theirs)
            names = [table.name for table in theirs.sorted_tables if table.name in tables.tables]
            names.remove(_REVISION)
            for name in reversed(names):
                writing.execute(theirs.tables[name].delete())
            rows = sum(_copy(reading, writing, tables.tables[name], theirs.tables[name]) for name in names)
            _relocate(writing, old, target.artifacts)
            return rows
    finally:
        source.dispose()
        server.dispose()


def _check(reading: sa.Connection, writing: sa.Connection, ours: sa.MetaData, theirs: sa.MetaData) -> None:
    has, wanted = (
        connection.execute(sa.select(tables.tables[_REVISION].c.version_num)).scalar()
        for connection, tables in ((reading, ours), (writing, theirs))
    )
    if has != wanted:
        raise PlatformError(
            f"the home's MLflow store has revision {has}, and the server's {wanted}: run `mlflow db upgrade` on the "
            "older one, after a backup"
        )
    runs, there = (
        {row[0] for row in connection.execute(sa.select(tables.tables["runs"].c.run_uuid))}
        for connection, tables in ((reading, ours), (writing, theirs))
    )
    if there - runs:
        raise PlatformError(
            f"the schema mlflow of the database has {len(there - runs)} model runs of another home; name a database of "
            "this home's own with the PG… variables"
        )


def _copy(reading: sa.Connection, writing: sa.Connection, ours: sa.Table, theirs: sa.Table) -> int:
    columns = [column for column in ours.c if column.name in theirs.c]
    rows = [dict(row._mapping) for row in reading.execute(sa.select(*columns))]
    for row in rows:
        for column in theirs.c:
            if isinstance(column.type, sa.Boolean) and row.get(column.name) is not None:
                row[column.name] = bool(row[column.name])
    if rows:
        writing.execute(theirs.insert(), rows)
    for column in theirs.primary_key.columns:
        if isinstance(column.type, sa.Integer) and len(theirs.primary_key.columns) == 1:
            # The next row that is made takes a number after those that were copied.
            last = f"(select coalesce(max({column.name}), 0) + 1 from {theirs.name})"
            sequence = sa.text(f"select pg_get_serial_sequence('{theirs.name}', '{column.name}')")
            if writing.execute(sequence).scalar() is not None:
                writing.execute(
                    sa.text(
                        f"select setval(pg_get_serial_sequence('{theirs.name}', '{column.name}'), {last}, false)"
                    )
                )
    return len(rows)


def _relocate(connection: sa.Connection, old: str, new: str) -> None:
    present = set(sa.inspect(connection).get_table_names())
    for table, column in PLACES:
        if table in present:
            connection.execute(
                sa.text(
                    f"update {table} set {column} = :new || substr({column}, :after) "
                    f"where substr({column}, 1, :length) = :old"
                ),
                {"new": new, "after": len(old) + 1, "length": len(old) + 1, "old": f"{old}/"},
            )
            connection.execute(
                sa.text(f"update {table} set {column} = :new where {column} = :old"), {"new": new, "old": old}
            )
