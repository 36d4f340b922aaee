"""Row expressions, evaluated so that a row's value never depends on the rows beside it."""

from collections.abc import Callable, Mapping

import polars as pl

from my_platform.features.declaration import FeatureError, FeatureSet


def derive(table: str, frame: pl.DataFrame, derived: Mapping[str, pl.Expr]) -> pl.DataFrame:
    """`frame` with the derived columns; raises FeatureError where they cannot be computed or are there."""
    if there := [name for name in derived if name in frame.columns]:
        raise FeatureError(
            f"{table}: {', '.join(there)} cannot be derived, as the table has columns of that name; choose another one"
        )
    try:
        return _row_by_row(frame, lambda rows: rows.with_columns(**derived)) if derived else frame
    except pl.exceptions.PolarsError as error:
        raise FeatureError(f"{table}: the columns {list(derived)} cannot be derived: {error}") from error


def evaluate(feature_set: FeatureSet, rows: pl.DataFrame) -> pl.DataFrame:
    """The columns `keep` and `columns` of rows that hold the row's own columns and its aggregates."""
    try:
        return _row_by_row(rows, lambda rows: rows.select(*feature_set.keep, **feature_set.columns))
    except pl.exceptions.PolarsError as error:
        raise FeatureError(
            f"{feature_set.name}: {error}; a column can use the aggregates {list(feature_set.aggregates)} "
            f"and the columns of {feature_set.rows}, {rows.columns}"
        ) from error


def _row_by_row(frame: pl.DataFrame, step: Callable[[pl.LazyFrame], pl.LazyFrame]) -> pl.DataFrame:
    """The step's result by the in-memory engine, on materialized columns of one chunk and two rows or more.

    polars 2.1 divides a column by a constant as a multiplication with the reciprocal, but as a division
    where the column, its chunk or the streaming engine's morsel has a single row, or where one value is held
    for all rows; the two differ in the last bit.
    """
    columns = frame.get_columns()
    if frame.height == 1:
        columns = [pl.concat([column, column]) for column in columns]
    return step(pl.DataFrame(columns).rechunk().lazy()).collect(engine="in-memory")[: frame.height]
