"""Columns are followed from the landed file to what is made of them."""

from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets_tests.operations import checked_shop
from my_platform.domains.fraud.features import terminal_risk
from my_platform.features.assets import column_lineage, feature_asset
from my_platform.features.declaration import Condition, count, feature_set, total
from my_platform.incremental.declare import Asset, Column, same, table
from my_platform.operations.lineage import MADE_OF, described, lineage_metadata, lineage_of
from my_platform.operations.platform import Project
from my_platform.settings import Settings

EUROS = feature_set(
    "spending",
    rows="validated/orders",
    entity="SHOP_ID",
    time="ORDERED_AT",
    order="ORDER_ID",
    derive={"euros": pl.col("CENTS") // 100},
    aggregates={
        "n": count(days=7, where=Condition("CENTS", ">", 10)),
        "sum": total("euros", days=7, past_only=True),
    },
    columns={"N": pl.col("n"), "MEAN": pl.col("sum") / pl.col("n"), "OWN": pl.col("euros") + 1},
)


@table(
    "totals",
    reads={"spending": same("spending")},
    columns={"SUM": Column(pl.Float64(), "the sum of means")},
    lineage={"SUM": (("spending", "MEAN"),)},
)
def totals(spending: pl.LazyFrame) -> pl.LazyFrame:
    return spending.select(SUM=pl.col("MEAN").sum())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    raw, valid, *_ = checked_shop.assets(Settings(home=tmp_path_factory.mktemp("home")))
    return Project.of([raw, valid, feature_asset(EUROS, rows=valid, events=valid), totals])


def metadata(project: Project, name: str) -> dict[str, Any]:
    return dict(lineage_metadata(project, project.assets[name]))


def test_a_validated_column_is_the_raw_one(project: Project) -> None:
    found = lineage_of(project, project.assets["validated/orders"])
    assert found["CENTS"] == (("raw/orders", "CENTS"),)
    assert len(found) == 4


def test_a_feature_is_made_of_what_its_aggregates_read_and_test() -> None:
    found = {name: {column for _, column in made_of} for name, made_of in column_lineage(EUROS).items()}
    assert found == {
        "ORDER_ID": {"ORDER_ID"},
        "ORDERED_AT": {"ORDERED_AT"},
        "N": {"SHOP_ID", "ORDERED_AT", "CENTS"},
        "MEAN": {"SHOP_ID", "ORDERED_AT", "CENTS"},
        "OWN": {"CENTS"},
    }


def test_a_feature_of_two_tables_names_each() -> None:
    found = column_lineage(terminal_risk)
    assert set(found["TERMINAL_ID_DAYS_SINCE_LAST_FRAUD"]) == {
        ("validated/transactions", "TX_DATETIME"),
        *(
            ("labelled_transactions", name)
            for name in ("TERMINAL_ID", "REPORTED_AT", "IS_FRAUD", "TX_AMOUNT")
        ),
        ("labelled_transactions", "CUSTOMER_ID_AMOUNT_TO_PAST_AVG"),
    }


def test_the_metadata_leads_from_a_table_back_to_the_landed_columns(project: Project) -> None:
    found = metadata(project, "totals")
    lineage = found["dagster/column_lineage"].value
    assert lineage.deps_by_column == {"SUM": [dg.TableColumnDep(dg.AssetKey("spending"), "MEAN")]}
    assert (
        "| SUM | spending: MEAN | orders.CENTS, orders.ORDERED_AT, orders.SHOP_ID |" in found[MADE_OF].value
    )


def test_a_landed_column_says_its_file(project: Project) -> None:
    assert "| CENTS |  | orders.CENTS |" in metadata(project, "raw/orders")[MADE_OF].value


def test_a_column_says_beside_its_description_what_it_is_made_of(project: Project) -> None:
    assert described(project, totals, "SUM") == "the sum of means ← spending: MEAN"
    assert described(project, project.assets["spending"], "OWN") == "from euros ← validated/orders: CENTS"


def test_an_asset_that_says_nothing_of_it_has_none() -> None:
    silent = Asset(**{**totals.__dict__, "lineage": {}, "reads": {}})
    assert metadata(Project.of([silent]), "totals") == {}
