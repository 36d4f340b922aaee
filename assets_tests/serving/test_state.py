"""Online state over a store: rows scored, labels joined, partitions bootstrapped and reconciled."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from assets_tests.serving.conftest import OpenStore
from my_platform.domains.fraud.features import (
    LABELLED_TRANSACTIONS,
    TO_PAST_AVG,
    TRANSACTIONS,
    customer_spending,
    terminal_risk,
    usual_spending,
)
from my_platform.features import offline
from my_platform.features.declaration import FeatureError
from my_platform.features.online import compile_online
from my_platform.features.replay import same_bits
from my_platform.serving.state import OnlineState, UnknownRow, ValidatedDay

START = datetime(2024, 1, 1)
DAYS = 12
ROW = {
    "TRANSACTION_ID": pl.Int64(),
    "TX_DATETIME": pl.Datetime("us"),
    "CUSTOMER_ID": pl.Int64(),
    "TERMINAL_ID": pl.Int64(),
    "TX_AMOUNT": pl.Float64(),
}
LABELLED = {**ROW, TO_PAST_AVG: pl.Float64(), "REPORTED_AT": pl.Datetime("us"), "IS_FRAUD": pl.Boolean()}
SPENDING = compile_online(customer_spending, ROW, lateness_days=30)
SPENDING_ROW = {**SPENDING.table_types}
FORMS = [
    SPENDING,
    compile_online(usual_spending, SPENDING_ROW, lateness_days=30),
    compile_online(terminal_risk, ROW, LABELLED, lateness_days=30),
]


LABELLED_NONE = pl.DataFrame(schema=LABELLED)


@pytest.fixture(scope="module")
def transactions() -> pl.DataFrame:
    random, height = np.random.default_rng(11), 300
    seconds = np.sort(random.integers(0, DAYS * 86_400, height))
    return pl.DataFrame(
        {
            "TRANSACTION_ID": np.arange(height),
            "TX_DATETIME": [START + timedelta(seconds=int(second)) for second in seconds],
            "CUSTOMER_ID": random.integers(0, 6, height),
            "TERMINAL_ID": random.integers(0, 6, height),
            "TX_AMOUNT": random.integers(0, 40_000, height) / 100,
        },
        ROW,
    )


@pytest.fixture(scope="module")
def labelled(transactions: pl.DataFrame) -> pl.DataFrame:
    spending = offline.compute(customer_spending, transactions)
    return transactions.with_columns(
        spending[TO_PAST_AVG],
        REPORTED_AT=pl.col("TX_DATETIME") + pl.duration(days=2),
        IS_FRAUD=pl.col("TX_AMOUNT") > 200,
    ).select(list(LABELLED))


def records(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return frame.with_columns(pl.selectors.temporal().to_physical()).to_dicts()


def days_of(frame: pl.DataFrame, time: str, version: str = "v1") -> Iterator[ValidatedDay]:
    for (day,), part in frame.sort(time).group_by(pl.col(time).dt.date(), maintain_order=True):
        yield ValidatedDay(str(day), version, part)


def wanted(rows: pl.DataFrame, transactions: pl.DataFrame, labelled: pl.DataFrame) -> pl.DataFrame:
    spending = offline.compute(customer_spending, transactions)
    parts = [
        offline.compute(customer_spending, rows, transactions),
        offline.compute(
            usual_spending,
            spending.filter(pl.col("TRANSACTION_ID").is_in(rows["TRANSACTION_ID"].implode())),
            spending,
        ),
        offline.compute(terminal_risk, rows, labelled),
    ]
    return pl.concat(
        [part.select(list(form.types)) for part, form in zip(parts, FORMS, strict=True)], how="horizontal"
    )


def assert_answers(state: OnlineState, rows: pl.DataFrame, features: pl.DataFrame) -> None:
    answers = [state.answer(row) for row in records(rows)]
    assert [answer.degraded for answer in answers if answer.degraded] == []
    found = pl.DataFrame([answer.values for answer in answers], dict(state.features), orient="row")
    for name in features.columns:
        assert same_bits(found[name], features[name]).all(), name


def bootstrapped(open_store: OpenStore, transactions: pl.DataFrame, labelled: pl.DataFrame) -> OnlineState:
    state = OnlineState(FORMS, open_store())
    state.bootstrap(TRANSACTIONS, days_of(transactions, "TX_DATETIME"))
    bootstrap_spending(state, transactions)
    state.bootstrap(LABELLED_TRANSACTIONS, days_of(labelled, "REPORTED_AT"))
    return state


def bootstrap_spending(state: OnlineState, transactions: pl.DataFrame) -> None:
    """Partitions of the features of the transactions, in versions that tell their content apart."""
    spending = offline.compute(customer_spending, transactions)
    days = days_of(spending, "TX_DATETIME")
    state.bootstrap(
        customer_spending.name, (day._replace(version=str(day.frame.hash_rows().sum())) for day in days)
    )


def test_rows_scored_in_time_with_labels_as_they_come_have_the_offline_features(
    open_store: OpenStore, transactions: pl.DataFrame, labelled: pl.DataFrame
) -> None:
    state = OnlineState(FORMS, open_store(), most_entities=4)
    labels = records(labelled.sort("REPORTED_AT"))
    for row in records(transactions):
        while labels and labels[0]["REPORTED_AT"] <= row["TX_DATETIME"]:
            label = labels.pop(0)
            told = {name: label[name] for name in ("REPORTED_AT", "IS_FRAUD")}
            assert state.label(LABELLED_TRANSACTIONS, label["TRANSACTION_ID"], told)
            assert not state.label(LABELLED_TRANSACTIONS, label["TRANSACTION_ID"], told)
        (answer,) = state.score([row])
        remembered = {"row": row, "features": list(answer.values), "degraded": None}
        assert state.remembered(row["TRANSACTION_ID"]) == remembered
        assert state.score([row]) == [answer]
    reopened = OnlineState(FORMS, open_store(), most_entities=4)
    assert_answers(reopened, transactions, wanted(transactions, transactions, labelled))


def test_a_bootstrapped_state_has_the_offline_features(
    open_store: OpenStore, transactions: pl.DataFrame, labelled: pl.DataFrame
) -> None:
    state = bootstrapped(open_store, transactions, labelled)
    assert_answers(state, transactions, wanted(transactions, transactions, labelled))


def test_a_second_bootstrap_of_the_same_versions_takes_nothing_in(
    open_store: OpenStore, transactions: pl.DataFrame, labelled: pl.DataFrame
) -> None:
    bootstrapped(open_store, transactions, labelled)
    state = OnlineState(FORMS, open_store())
    assert state.bootstrap(TRANSACTIONS, days_of(transactions, "TX_DATETIME")) == 0


def test_a_corrected_day_is_reconciled_without_a_replay(
    open_store: OpenStore, transactions: pl.DataFrame, labelled: pl.DataFrame
) -> None:
    state = bootstrapped(open_store, transactions, labelled)
    day = pl.col("TX_DATETIME").dt.date() == START.date() + timedelta(days=5)
    corrected = transactions.filter(~(day & (pl.col("TRANSACTION_ID") % 3 == 0))).with_columns(
        TX_AMOUNT=pl.when(day).then(pl.col("TX_AMOUNT") + 7).otherwise(pl.col("TX_AMOUNT"))
    )
    days = [
        *days_of(corrected.filter(~day), "TX_DATETIME"),
        *days_of(corrected.filter(day), "TX_DATETIME", "v2"),
    ]
    taken = state.bootstrap(TRANSACTIONS, days)
    assert taken == corrected.filter(day).height
    bootstrap_spending(state, corrected)
    assert_answers(state, corrected, wanted(corrected, corrected, labelled))


def test_what_was_scored_and_then_lands_is_one_event(
    open_store: OpenStore, transactions: pl.DataFrame, labelled: pl.DataFrame
) -> None:
    state = OnlineState(FORMS, open_store())
    for row in records(transactions[:200]):
        state.score([row])
    # What landed lacks a transaction that was scored, which stays.
    landed = transactions.filter(pl.col("TRANSACTION_ID") != 17)
    state.bootstrap(TRANSACTIONS, days_of(landed, "TX_DATETIME"))
    bootstrap_spending(state, transactions)
    state.bootstrap(LABELLED_TRANSACTIONS, days_of(labelled, "REPORTED_AT"))
    assert_answers(state, transactions, wanted(transactions, transactions, labelled))


def test_a_label_of_a_bootstrapped_transaction_finds_its_columns(
    open_store: OpenStore, transactions: pl.DataFrame, labelled: pl.DataFrame
) -> None:
    state = OnlineState(FORMS, open_store())
    state.bootstrap(TRANSACTIONS, days_of(transactions, "TX_DATETIME"))
    told = {"REPORTED_AT": 0, "IS_FRAUD": True}
    with pytest.raises(UnknownRow, match=f"customer_spending: {TO_PAST_AVG} of the row .* 40 is not"):
        state.label(LABELLED_TRANSACTIONS, 40, told)
    bootstrap_spending(state, transactions)
    label = records(labelled)[40]
    state.label(LABELLED_TRANSACTIONS, 40, {name: label[name] for name in ("REPORTED_AT", "IS_FRAUD")})
    rows = transactions[250:]
    assert_answers(state, rows, wanted(rows, transactions, labelled[40]))


def test_a_batch_of_more_entities_than_memory_holds_is_scored_in_order(
    open_store: OpenStore, transactions: pl.DataFrame, labelled: pl.DataFrame
) -> None:
    state = OnlineState(FORMS, open_store(), most_entities=2)
    answers = state.score(records(transactions))
    found = pl.DataFrame([answer.values for answer in answers], dict(state.features), orient="row")
    features = wanted(transactions, transactions, labelled[:0])
    for name in features.columns:
        assert same_bits(found[name], features[name]).all(), name


def test_a_row_that_was_scored_and_landed_keeps_its_answer_and_its_label_finds_both(
    open_store: OpenStore, transactions: pl.DataFrame, labelled: pl.DataFrame
) -> None:
    state = OnlineState(FORMS, open_store())
    answers = state.score(records(transactions))
    state.bootstrap(TRANSACTIONS, days_of(transactions, "TX_DATETIME"))
    assert state.score(records(transactions)) == answers
    for label in records(labelled):
        told = {name: label[name] for name in ("REPORTED_AT", "IS_FRAUD")}
        state.label(LABELLED_TRANSACTIONS, label["TRANSACTION_ID"], told)
    assert state.bootstrap(LABELLED_TRANSACTIONS, days_of(labelled, "REPORTED_AT")) == labelled.height
    assert_answers(state, transactions, wanted(transactions, transactions, labelled))


def test_a_label_of_an_unknown_transaction_is_refused(open_store: OpenStore) -> None:
    state = OnlineState(FORMS, open_store())
    with pytest.raises(UnknownRow, match="no row with TRANSACTION_ID 5 is remembered"):
        state.label(LABELLED_TRANSACTIONS, 5, {"REPORTED_AT": 0, "IS_FRAUD": True})


def test_a_contradicting_event_in_a_batch_leaves_the_state_as_it_was(
    open_store: OpenStore, transactions: pl.DataFrame
) -> None:
    state = OnlineState(FORMS, open_store())
    known, *more = records(transactions[:5])
    state.score([known])
    with pytest.raises(FeatureError, match="correct it in its partition"):
        state.score([*more, known | {"TX_AMOUNT": 1_000_000.0}])
    for row in more:
        assert state.remembered(row["TRANSACTION_ID"]) is None
    state.score(more)
    rows = transactions[:5]
    assert_answers(state, rows, wanted(rows, rows, LABELLED_NONE))


def test_history_that_is_not_there_degrades_the_rows_that_need_it(
    open_store: OpenStore, transactions: pl.DataFrame
) -> None:
    state = OnlineState(FORMS, open_store())
    begins = START + timedelta(days=4)
    kept = transactions.filter(pl.col("TX_DATETIME") >= begins)
    state.bootstrap(
        TRANSACTIONS,
        days_of(kept, "TX_DATETIME"),
        complete_from=int((begins - datetime(1970, 1, 1)).total_seconds()),
    )
    degraded = state.answer(records(kept)[-1]).degraded
    assert degraded is not None
    assert degraded.startswith("customer_spending: events up to second")


def test_a_state_forgets_what_no_later_row_asks_for_and_nothing_else(
    open_store: OpenStore, transactions: pl.DataFrame, labelled: pl.DataFrame
) -> None:
    state = bootstrapped(open_store, transactions, labelled)
    later = transactions[-40:].with_columns(
        pl.col("TRANSACTION_ID") + 1000, pl.col("TX_DATETIME") + pl.duration(days=60)
    )
    state.forget(records(later)[0]["TX_DATETIME"] // 10**6)
    store = open_store()
    assert (
        sum(len(store.events("customer_spending", entity)) for entity in range(6)) < transactions.height / 2
    )
    assert store.row(f"{TRANSACTIONS} 0") is None
    state = OnlineState(FORMS, store)
    assert_answers(state, later[0], wanted(later[0], pl.concat([transactions, later[0]]), labelled))
    assert state.answer(records(transactions)[-1]).degraded is not None


@pytest.mark.parametrize("column", ["CUSTOMER_ID", "TX_DATETIME"])
def test_a_partition_with_an_event_of_no_one_or_no_time_is_refused(
    open_store: OpenStore, transactions: pl.DataFrame, column: str
) -> None:
    state = OnlineState(FORMS, open_store())
    broken = transactions.with_columns(
        pl.when(pl.col("TRANSACTION_ID") != 3).then(pl.col(column)).alias(column)
    )
    with pytest.raises(FeatureError, match=f"validated/transactions, column {column}: 1 values are null"):
        state.bootstrap(TRANSACTIONS, [ValidatedDay("2024-01-01", "v1", broken)])
