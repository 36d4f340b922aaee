"""Reading what dbt and SQLMesh have put into a DuckDB file.

Each of their tables has a column ``built_at``, the time at which the row was written: a partition whose time is
another one than before the edit was computed for it.
"""

from pathlib import Path

import duckdb

from benchmarks._peers.shop import COLUMNS, Contents

Times = dict[tuple[str, str], str]


def read(file: Path, schema: str) -> tuple[Contents, Times]:
    """Rows, and the time at which they were written, by asset and day."""
    contents: Contents = {}
    times: Times = {}
    with duckdb.connect(str(file), read_only=True) as connection:
        for name, columns in COLUMNS.items():
            query = f"select day::date::varchar, {', '.join(columns)} from {schema}.{name} order by all"
            for day, *row in connection.execute(query).fetchall():
                contents.setdefault((name, day), []).append(tuple(row))
            query = f"select day::date::varchar, string_agg(distinct built_at::varchar) from {schema}.{name} group by 1"
            for day, time in connection.execute(query).fetchall():
                times[name, day] = time
    return contents, times


def written(before: Times, after: Times) -> list[tuple[str, str]]:
    """The partitions that were written in between."""
    return sorted(place for place, time in after.items() if before.get(place) != time)
