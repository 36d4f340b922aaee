"""A feature whose value would depend on the rows beside it is refused before it is computed."""

import polars as pl
import pytest

from my_platform.features import offline
from my_platform.features.assets import refuse_unsteady
from my_platform.features.declaration import FeatureSet, UnsteadyFeature, count, feature_set
from my_platform.incremental.declare import Asset, Column, table

TYPES = {
    "ID": pl.Int64(),
    "AT": pl.Datetime("us"),
    "WHO": pl.Int64(),
    "A": pl.Float64(),
    "X": pl.Boolean(),
    "NAME": pl.String(),
}


def declared(expression: pl.Expr) -> FeatureSet:
    return feature_set(
        "f",
        rows="rows",
        entity="WHO",
        time="AT",
        order="ID",
        aggregates={"n": count(days=1)},
        columns={"FOUND": expression},
    )


def rows_asset() -> Asset:
    def rows() -> pl.LazyFrame:
        return pl.LazyFrame(schema=TYPES)

    return table("rows", reads={}, columns={name: Column(dtype) for name, dtype in TYPES.items()})(rows)


CHOICE = pl.when(pl.col("X")).then(pl.col("A")).otherwise(2.5)


def test_a_division_by_a_choice_with_a_constant_branch_is_refused() -> None:
    with pytest.raises(UnsteadyFeature, match="feature set f, column FOUND: TrueDivide of a choice"):
        refuse_unsteady(declared(3.0 * pl.col("A") / CHOICE), rows_asset(), rows_asset())


def test_it_would_depend_on_the_rows_beside_a_row() -> None:
    frame = pl.DataFrame(
        {"ID": [1, 2], "AT": [0, 1_000_000], "WHO": [1, 2], "A": [1.0, 1.0], "X": [False, True], "NAME": "n"},
        schema=TYPES,
    )
    unsteady = declared(3.0 * pl.col("A") / CHOICE)

    alone, beside = (offline.compute(unsteady, part)["FOUND"][0] for part in (frame.head(1), frame))

    assert alone != beside


@pytest.mark.parametrize(
    "expression",
    [
        pl.when(pl.col("X")).then(3.0 * pl.col("A") / pl.col("A")).otherwise(pl.col("A") / 2.5),
        pl.col("A") / pl.col("n"),
        # It has no online form, and is for bulk only.
        pl.col("NAME").str.len_chars(),
    ],
)
def test_others_are_not_refused(expression: pl.Expr) -> None:
    refuse_unsteady(declared(expression), rows_asset(), rows_asset())
