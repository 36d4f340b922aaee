"""Every feature of the domain is the same without the future, and one that is not is caught."""

from dataclasses import replace as changed
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets_tests.homes import FIRST
from my_platform.domains.fraud import models, training
from my_platform.domains.fraud.features import (
    TO_PAST_AVG,
    customer_spending,
    joined,
    terminal_risk,
    usual_spending,
)
from my_platform.domains.fraud.simulator import SimulatorConfig, land_simulation
from my_platform.errors import Refused
from my_platform.features import offline
from my_platform.features.declaration import FeatureError, FeatureSet
from my_platform.features.replay import replay, sample

Tables = dict[str, pl.DataFrame]

DAYS = 45
DAY = timedelta(days=1)
WEEK = "2025-02-05"
INPUTS = {"training_set": {WEEK: "current"}}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """Simulated transactions, what they tell of their cards, the reports on them, and both joined."""
    landing = tmp_path_factory.mktemp("landing")
    land_simulation(
        landing, first=FIRST, days=DAYS, config=SimulatorConfig(customers=150, terminals=200), closed=True
    )
    transactions = pl.read_parquet(landing / "transactions" / "*.parquet")
    reports = pl.read_parquet(landing / "fraud_reports" / "*.parquet")
    spending = offline.compute(customer_spending, transactions)
    labelled = reports.join(transactions, on="TRANSACTION_ID").join(
        spending.select("TRANSACTION_ID", TO_PAST_AVG), on="TRANSACTION_ID"
    )
    return {"transactions": transactions, "spending": spending, "labelled": labelled, "reports": reports}


@pytest.fixture(scope="module")
def stored(tables: Tables) -> pl.DataFrame:
    """Rows with all features, as they are in a training set."""
    late = tables["transactions"].filter(pl.col("TX_DATETIME").dt.date() >= FIRST + 15 * DAY)
    rows = sample(late, "TRANSACTION_ID", 300)
    spent = tables["spending"].join(rows, on="TRANSACTION_ID", how="semi")
    usual = offline.compute(usual_spending, spent, tables["spending"])
    risk = offline.compute(terminal_risk, rows, tables["labelled"])
    return joined(spent.lazy(), usual.lazy(), risk.lazy()).collect()


def test_features_are_joined_by_transaction_whatever_rows_each_set_has(tables: Tables) -> None:
    rows = tables["transactions"].sort("TRANSACTION_ID").tail(50)
    spent = tables["spending"].join(rows, on="TRANSACTION_ID", how="semi", maintain_order="left")
    usual = offline.compute(usual_spending, spent, tables["spending"])
    risk = offline.compute(terminal_risk, rows, tables["labelled"])
    aligned = joined(spent.lazy(), usual.lazy(), risk.lazy()).collect()
    assert aligned.height == 50
    for others in (
        (usual.reverse(), risk),
        (usual, risk.sample(fraction=1.0, shuffle=True, seed=1)),
        (usual.head(30), risk.tail(30)),
    ):
        found = joined(spent.lazy(), *(table.lazy() for table in others)).collect()
        whole = aligned.join(others[0], on="TRANSACTION_ID", how="semi")
        whole = whole.join(others[1], on="TRANSACTION_ID", how="semi")
        assert_frame_equal(found.sort("TRANSACTION_ID"), whole.sort("TRANSACTION_ID"))
    twice = pl.concat([spent, spent.head(1)])
    again = joined(twice.lazy(), pl.concat([usual, usual.head(1)]).lazy(), risk.lazy()).collect()
    assert again.height == 49 + 4


def replayed(tables: Tables, stored: pl.DataFrame, **planted: pl.DataFrame) -> None:
    """What the asset does with these tables."""
    given = {"training_set": stored, **tables, **planted}
    training.training_set_replay(
        **{name: table.lazy() for name, table in given.items()}, partition=WEEK, inputs=INPUTS
    )


def test_no_feature_changes_when_the_future_is_removed(tables: Tables, stored: pl.DataFrame) -> None:
    made = training.training_set_replay(
        stored.lazy(), *(table.lazy() for table in tables.values()), WEEK, INPUTS
    )
    assert made.table.rows() == [("current", training.REPLAYED_ROWS, len(training.FEATURES))]
    assert [result.passed for result in made.checks] == [True]


def test_a_model_is_not_fitted_on_a_training_set_whose_replay_was_refused(stored: pl.DataFrame) -> None:
    good = pl.DataFrame({"training_set": ["the one before"], "rows": [200], "features": [15]})
    with pytest.raises(Refused, match="another one than was replayed"):
        models.fraud_lightgbm(stored.lazy(), good.lazy(), WEEK, {}, INPUTS, 1)


def test_labels_that_are_known_a_day_early_are_caught(tables: Tables, stored: pl.DataFrame) -> None:
    early = tables["labelled"].with_columns(pl.col("REPORTED_AT") - DAY)
    risk = offline.compute(terminal_risk, tables["transactions"], early).drop("TX_DATETIME")
    leaking = stored.drop(*terminal_risk.columns).join(risk, on="TRANSACTION_ID")
    with pytest.raises(
        Refused, match="features saw the future: column TERMINAL_ID_NB_TX_1DAY_WINDOW of row"
    ) as caught:
        replayed(tables, leaking, labelled=early)
    (answer,) = caught.value.checks
    assert (answer.passed, answer.check) == (False, "no_future_in_features")


def test_a_declaration_that_counts_labels_a_day_early_is_caught(tables: Tables) -> None:
    early = changed(
        terminal_risk,
        event_derive={**terminal_risk.event_derive, "early": pl.col("REPORTED_AT") - DAY},
        event_time="early",
    )
    rows = sample(tables["transactions"], "TRANSACTION_ID", 100)
    leaking = offline.compute(early, rows, tables["labelled"])
    assert replay(early, leaking, rows, tables["labelled"], known_at="REPORTED_AT")
    assert not replay(
        terminal_risk, offline.compute(terminal_risk, rows, tables["labelled"]), rows, tables["labelled"]
    )


def next_day(feature_set: FeatureSet, rows: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """A canary: what the customer spends within a day after the row."""
    later = rows.select("TRANSACTION_ID", "CUSTOMER_ID", at="TX_DATETIME").join(events, on="CUSTOMER_ID")
    within = later.filter(pl.col("TX_DATETIME").is_between(pl.col("at"), pl.col("at") + DAY, closed="right"))
    sums = within.group_by("TRANSACTION_ID").agg(TX_AMOUNT=pl.col("TX_AMOUNT").sum())
    return (
        offline.compute(feature_set, rows, events)
        .drop("TX_AMOUNT")
        .join(sums, on="TRANSACTION_ID", how="left")
    )


def test_a_feature_that_is_computed_of_the_future_is_caught(tables: Tables) -> None:
    rows = sample(tables["transactions"], "TRANSACTION_ID", 100)
    leaking = next_day(customer_spending, rows, tables["transactions"])
    found = replay(customer_spending, leaking, rows, tables["transactions"], compute=next_day)
    assert [difference.column for difference in found] == ["TX_AMOUNT"]
    assert found[0].replayed is None


def test_a_stored_value_that_is_off_by_its_last_bit_is_caught(tables: Tables, stored: pl.DataFrame) -> None:
    name = "CUSTOMER_ID_AVG_AMOUNT_7DAY_WINDOW"
    values = stored[name].to_numpy().copy()
    values[7] = np.nextafter(values[7], 1e9)
    (found,) = replay(customer_spending, stored.with_columns(pl.Series(name, values)), tables["transactions"])
    assert (found.column, found.key) == (name, stored["TRANSACTION_ID"][7])


def test_a_feature_that_looks_at_the_entity_itself_is_replayed_row_by_row(tables: Tables) -> None:
    named = changed(customer_spending, columns={"CARD": pl.col("CUSTOMER_ID"), "N": pl.col("n_7d")})
    rows = sample(tables["transactions"], "TRANSACTION_ID", 5)
    stored = offline.compute(named, rows, tables["transactions"])
    assert (
        stored["CARD"].to_list()
        == stored.join(rows, on="TRANSACTION_ID", maintain_order="left")["CUSTOMER_ID"].to_list()
    )
    assert not replay(named, stored, tables["transactions"])


def test_a_stored_row_without_its_transaction_is_named(tables: Tables, stored: pl.DataFrame) -> None:
    lost = stored["TRANSACTION_ID"][0]
    rows = tables["transactions"].filter(pl.col("TRANSACTION_ID") != lost)
    with pytest.raises(FeatureError, match=rf"300 rows are stored, and 299 .* missing are \[{lost}\]"):
        replay(customer_spending, stored, rows)


def test_the_sample_is_the_same_whatever_the_order_of_rows(tables: Tables) -> None:
    table = tables["transactions"]
    ids = set(sample(table, "TRANSACTION_ID", 50)["TRANSACTION_ID"])
    assert len(ids) == 50
    assert ids == set(sample(table.reverse(), "TRANSACTION_ID", 50)["TRANSACTION_ID"])
    texts = table.select(id=pl.col("TRANSACTION_ID").cast(pl.String))
    assert set(sample(texts, "id", 50)["id"]) == set(sample(texts.reverse(), "id", 50)["id"])
