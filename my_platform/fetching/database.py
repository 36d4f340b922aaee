"""Days of a database, by SQLAlchemy."""

import time
from collections.abc import Callable
from datetime import date, timedelta
from typing import TYPE_CHECKING

import polars as pl

from my_platform.errors import SourceError
from my_platform.fetching.declaration import DatabaseSource, as_table, secret

if TYPE_CHECKING:
    import sqlalchemy as sa

_CHUNK = 10_000


def rows_of_day(
    source: DatabaseSource, day: date, sleep: Callable[[float], None] = time.sleep
) -> pl.DataFrame:
    """The rows of a day, by one query, so as they were at one moment.

    Raises:
        SourceError: the database cannot be reached after all tries, or does not take the query.
    """
    import sqlalchemy as sa

    url = secret(source, source.url_env)
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        host, name = engine.url.host, engine.url.database
        if host and "@" in f"{host}{name}":
            # It begins in the password, and a driver would tell it.
            raise ValueError("an @ behind the one that ends the password")
    except (sa.exc.ArgumentError, ValueError, ModuleNotFoundError) as error:
        raise SourceError(
            f"{source.table}: {source.url_env} is no URL of a database that can be used ({type(error).__name__}); expected "
            "one such as postgresql://USER:PASSWORD@HOST/DATABASE, with its driver installed; percent-encode what is special "
            "in a password, such as @, / and :"
        ) from None
    for attempt in range(1, source.tries + 1):
        try:
            return _asked(source, engine, day)
        except sa.exc.SQLAlchemyError as error:
            said = _without_secrets(error, engine.url)
            if not _passes(error, engine.dialect.name):
                raise SourceError(
                    f"{source.table} {day}: the database refuses the query: {said}. Correct the query of the source"
                ) from None
            if attempt == source.tries:
                raise SourceError(
                    f"{source.table} {day}: the database cannot be asked, after {attempt} tries: {said}. See whether it "
                    f"runs and whether {source.url_env} is right, and fetch again"
                ) from None
            sleep(0.5 * 2**attempt)
    raise AssertionError("a source is asked at least once")


def _asked(source: DatabaseSource, engine: "sa.Engine", day: date) -> pl.DataFrame:
    import sqlalchemy as sa

    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            # A day is one in UTC, whatever zone the server is in.
            connection.execute(sa.text("set time zone 'UTC'"))
            connection.execute(sa.text("set transaction read only"))
        asked = {"day": f"{day} 00:00:00", "next_day": f"{day + timedelta(days=1)} 00:00:00"}
        result = connection.execution_options(stream_results=True).execute(sa.text(source.query), asked)
        names = list(result.keys())
        rows: list[tuple[object, ...]] = []
        while chunk := result.fetchmany(_CHUNK):
            rows.extend(tuple(row) for row in chunk)
            if len(rows) > source.most_rows:
                raise SourceError(
                    f"{source.table} {day}: the query gives more than {source.most_rows:,} rows; is it bounded by :day and "
                    ":next_day? Else raise most_rows of the source"
                )
        connection.rollback()
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return as_table(source, day, dict(zip(names, columns, strict=True)))


def _passes(error: Exception, dialect: str) -> bool:
    """Whether what went wrong may be over soon. SQLite calls every mistake in a query operational."""
    from sqlalchemy.exc import OperationalError

    return isinstance(error, OperationalError) and (dialect != "sqlite" or "locked" in str(error))


def _without_secrets(error: Exception, url: "sa.URL") -> str:
    """The first line of what a driver says. Some repeat the password."""
    said = (str(getattr(error, "orig", None) or error).splitlines() or [""])[0]
    return said.replace(str(url.password), "***") if url.password else said
