"""The fraud features against the Handbook's definitions, and against a past that knows no future."""

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from my_platform.domains.fraud.features import (
    TO_PAST_AVG,
    customer_spending,
    joined,
    terminal_risk,
    usual_spending,
)
from my_platform.features.declaration import FeatureSet
from my_platform.features.offline import compute

Record = dict[str, Any]

CHECKOUT = Path(__file__).parents[3]
DELAY = timedelta(days=7)
WINDOWS = (1, 7, 30)
LAST_DAYS = datetime(2018, 8, 8)
HANDBOOK_FEATURES = [
    "TX_AMOUNT",
    "TX_DURING_WEEKEND",
    "TX_DURING_NIGHT",
    *(f"CUSTOMER_ID_{kind}_{days}DAY_WINDOW" for days in WINDOWS for kind in ("NB_TX", "AVG_AMOUNT")),
    *(f"TERMINAL_ID_{kind}_{days}DAY_WINDOW" for days in WINDOWS for kind in ("NB_TX", "RISK")),
]


@pytest.fixture(scope="module")
def raw() -> pl.DataFrame:
    """The Handbook's transactions with their label, TX_FRAUD."""
    default = CHECKOUT.parent / "shared" / "data" / "handbook" / "transactions"
    folder = Path(os.environ.get("MY_PLATFORM_HANDBOOK", default))
    if not folder.is_dir():
        pytest.skip(f"the Handbook's data is not at {folder}; set MY_PLATFORM_HANDBOOK to its folder")
    columns = ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD"]
    return pl.concat(pl.read_parquet(path, columns=columns) for path in sorted(folder.glob("*.parquet")))


@pytest.fixture(scope="module")
def transactions(raw: pl.DataFrame) -> pl.DataFrame:
    return raw.drop("TX_FRAUD")


@pytest.fixture(scope="module")
def labelled(raw: pl.DataFrame) -> pl.DataFrame:
    return labelled_by_report(raw)


@pytest.fixture(scope="module")
def sample(raw: pl.DataFrame) -> pl.DataFrame:
    """200 rows of any day, 60 of the last week and 40 frauds."""
    return pl.concat(
        [
            raw.sample(200, seed=1),
            raw.filter(pl.col("TX_DATETIME") >= LAST_DAYS).sample(60, seed=2),
            raw.filter(pl.col("TX_FRAUD") == 1).sample(40, seed=3),
        ]
    ).unique("TRANSACTION_ID", maintain_order=True)


@pytest.fixture(scope="module")
def features(
    sample: pl.DataFrame, transactions: pl.DataFrame, spent: pl.DataFrame, labelled: pl.DataFrame
) -> dict[int, Record]:
    """All features of the sampled rows, by transaction, computed together."""
    rows = transactions.join(sample.select("TRANSACTION_ID"), on="TRANSACTION_ID", how="semi")
    spending = compute(customer_spending, rows, transactions)
    usual = compute(usual_spending, spending, spent)
    risk = compute(terminal_risk, rows, labelled)
    assert spending["TRANSACTION_ID"].equals(risk["TRANSACTION_ID"])
    return by_transaction(joined(spending.lazy(), usual.lazy(), risk.lazy()).collect())


@pytest.fixture(scope="module")
def spent(transactions: pl.DataFrame) -> pl.DataFrame:
    """What each transaction tells of its card."""
    return compute(customer_spending, transactions)


def labelled_by_report(raw: pl.DataFrame) -> pl.DataFrame:
    """Reports of a week later, with what the transactions tell of their cards."""
    spending = compute(customer_spending, raw.drop("TX_FRAUD")).select("TRANSACTION_ID", TO_PAST_AVG)
    return raw.join(spending, on="TRANSACTION_ID", how="left", maintain_order="left").select(
        pl.exclude("TX_FRAUD"),
        (pl.col("TX_DATETIME") + DELAY).alias("REPORTED_AT"),
        (pl.col("TX_FRAUD") == 1).alias("IS_FRAUD"),
    )


def by_transaction(frame: pl.DataFrame) -> dict[int, Record]:
    return {record["TRANSACTION_ID"]: record for record in frame.to_dicts()}


def handbook_features(row: Record, of_customer: list[Record], of_terminal: list[Record]) -> Record:
    """The Handbook's fifteen, from the raw transactions of the row's customer and terminal."""
    t = row["TX_DATETIME"]
    expected: Record = {
        "TX_AMOUNT": row["TX_AMOUNT"],
        "TX_DURING_WEEKEND": int(t.weekday() >= 5),
        "TX_DURING_NIGHT": int(t.hour <= 6),
    }
    for days in WINDOWS:
        window = timedelta(days=days)
        amounts = [
            tx["TX_AMOUNT"]
            for tx in of_customer
            if t - window < tx["TX_DATETIME"]
            and (tx["TX_DATETIME"], tx["TRANSACTION_ID"]) <= (t, row["TRANSACTION_ID"])
        ]
        frauds = [tx["TX_FRAUD"] for tx in of_terminal if t - DELAY - window < tx["TX_DATETIME"] <= t - DELAY]
        expected[f"CUSTOMER_ID_NB_TX_{days}DAY_WINDOW"] = len(amounts)
        expected[f"CUSTOMER_ID_AVG_AMOUNT_{days}DAY_WINDOW"] = sum(amounts) / len(amounts)
        expected[f"TERMINAL_ID_NB_TX_{days}DAY_WINDOW"] = len(frauds)
        expected[f"TERMINAL_ID_RISK_{days}DAY_WINDOW"] = sum(frauds) / len(frauds) if frauds else 0.0
    return expected


@pytest.mark.real_data
def test_the_handbooks_fifteen_features_are_reproduced(
    raw: pl.DataFrame, sample: pl.DataFrame, features: dict[int, Record]
) -> None:
    customers = raw.filter(pl.col("CUSTOMER_ID").is_in(sample["CUSTOMER_ID"].implode())).to_dicts()
    terminals = raw.filter(pl.col("TERMINAL_ID").is_in(sample["TERMINAL_ID"].implode())).to_dicts()
    of_customer: dict[int, list[Record]] = {}
    of_terminal: dict[int, list[Record]] = {}
    for tx in customers:
        of_customer.setdefault(tx["CUSTOMER_ID"], []).append(tx)
    for tx in terminals:
        of_terminal.setdefault(tx["TERMINAL_ID"], []).append(tx)
    for row in sample.to_dicts():
        computed = features[row["TRANSACTION_ID"]]
        expected = handbook_features(row, of_customer[row["CUSTOMER_ID"]], of_terminal[row["TERMINAL_ID"]])
        assert sorted(expected) == sorted(HANDBOOK_FEATURES)
        assert {name: computed[name] for name in expected} == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.real_data
def test_nothing_changes_when_the_future_of_a_row_is_removed(
    sample: pl.DataFrame,
    transactions: pl.DataFrame,
    spent: pl.DataFrame,
    labelled: pl.DataFrame,
    features: dict[int, Record],
) -> None:
    for row in sample[::15].to_dicts():
        now = pl.lit(row["TX_DATETIME"])
        here = pl.col("TRANSACTION_ID") == row["TRANSACTION_ID"]
        month = timedelta(days=31)
        past = transactions.filter(
            pl.col("TX_DATETIME").is_between(now - month, now, closed="left")
            | ((pl.col("TX_DATETIME") == now) & (pl.col("TRANSACTION_ID") <= row["TRANSACTION_ID"]))
        )
        known = labelled.filter(pl.col("REPORTED_AT").is_between(now - month, now))
        before = spent.filter(
            (pl.col("TX_DATETIME") < now)
            | ((pl.col("TX_DATETIME") == now) & (pl.col("TRANSACTION_ID") <= row["TRANSACTION_ID"]))
        )
        replayed = {
            **compute(usual_spending, before.filter(here), before).row(0, named=True),
            **compute(customer_spending, past.filter(here), past).row(0, named=True),
            **compute(terminal_risk, past.filter(here), known).row(0, named=True),
        }
        assert replayed == features[row["TRANSACTION_ID"]]


def made_up(amounts: list[float], days: list[float]) -> pl.DataFrame:
    """Transactions of one customer at one terminal, the given days after 2024-01-01."""
    return pl.DataFrame(
        {
            "TRANSACTION_ID": range(len(amounts)),
            "TX_DATETIME": [datetime(2024, 1, 1) + timedelta(days=day) for day in days],
            "CUSTOMER_ID": [1] * len(amounts),
            "TERMINAL_ID": [2] * len(amounts),
            "TX_AMOUNT": amounts,
        }
    )


@pytest.mark.parametrize(
    "feature_set", [customer_spending, usual_spending, terminal_risk], ids=lambda declared: declared.name
)
def test_every_feature_is_an_integer_or_a_float(feature_set: FeatureSet) -> None:
    transactions = made_up([5.0], [0])
    labelled = labelled_by_report(transactions.with_columns(TX_FRAUD=0))
    tables = {
        "validated/transactions": transactions,
        "customer_spending": compute(customer_spending, transactions),
        "labelled_transactions": labelled,
    }
    schema = compute(feature_set, tables[feature_set.rows], tables[feature_set.events]).schema
    assert list(schema) == [*feature_set.keep, *feature_set.columns]
    assert {schema[name] for name in feature_set.columns} == {pl.Int64, pl.Float64}


def test_an_amount_is_compared_with_the_customers_past_only() -> None:
    last = compute(customer_spending, made_up([10.0, 20.0, 30.0, 100.0], [0, 1, 9, 10])).row(3, named=True)
    assert last["CUSTOMER_ID_PAST_AVG_AMOUNT"] == pytest.approx(20.0)
    assert last["CUSTOMER_ID_PAST_SPREAD"] == pytest.approx(10.0)
    assert last["CUSTOMER_ID_AMOUNT_IN_PAST_SPREADS"] == pytest.approx(8.0)
    assert last["CUSTOMER_ID_AMOUNT_TO_PAST_AVG"] == pytest.approx(5.0)
    assert last["CUSTOMER_ID_AMOUNT_TO_PAST_MAX"] == pytest.approx(100 / 30)
    assert last["CUSTOMER_ID_RECENT_AVG_TO_PAST_AVG"] == pytest.approx(1.5)
    assert last["CUSTOMER_ID_RECENT_MAX_TO_PAST_AVG"] == pytest.approx(1.5)


def test_without_a_past_the_comparisons_are_null() -> None:
    first, second = compute(customer_spending, made_up([10.0, 20.0], [0, 31])).to_dicts()
    compared = [name for name in customer_spending.columns if "PAST" in name]
    assert {first[name] for name in compared} == {second[name] for name in compared} == {None}


def test_a_past_of_equal_amounts_has_no_spread_to_compare_with() -> None:
    last = compute(customer_spending, made_up([0.07, 0.07, 0.07, 3.0], [0, 1, 2, 3])).row(3, named=True)
    assert last["CUSTOMER_ID_PAST_SPREAD"] == 0.0
    assert last["CUSTOMER_ID_AMOUNT_IN_PAST_SPREADS"] is None


def test_known_reports_tell_the_state_of_the_terminal() -> None:
    transactions = made_up([150.0, 220.0, 220.01, 60.0, 70.0], [0, 1, 2, 3, 12])
    labelled = labelled_by_report(transactions.with_columns(TX_FRAUD=pl.Series([0, 1, 1, 0, 1])))
    last = compute(terminal_risk, transactions, labelled).row(4, named=True)
    assert last["TERMINAL_ID_NB_TX_7DAY_WINDOW"] == 4
    assert last["TERMINAL_ID_RISK_7DAY_WINDOW"] == 0.5
    assert last["TERMINAL_ID_USUAL_FRAUDS_3DAY_WINDOW"] == 0
    assert last["TERMINAL_ID_USUAL_FRAUDS_7DAY_WINDOW"] == 1
    assert last["TERMINAL_ID_USUAL_FRAUD_RATE_7DAY_WINDOW"] == 0.25
    assert last["TERMINAL_ID_DAYS_SINCE_FIRST_FRAUD"] == last["TERMINAL_ID_DAYS_SINCE_LAST_FRAUD"] == 4.0
    assert last["TERMINAL_ID_DAYS_SINCE_LAST_GENUINE"] == 2.0
    assert last["TERMINAL_ID_DAYS_FROM_GENUINE_TO_FRAUD"] == -2.0


def test_a_fraud_far_above_what_its_card_paid_before_tells_nothing_of_the_terminal() -> None:
    transactions = made_up([40.0, 99.99, 40.0, 160.0, 40.0], [0, 1, 2, 3, 12])
    labelled = labelled_by_report(transactions.with_columns(TX_FRAUD=pl.Series([0, 1, 0, 1, 0])))
    last = compute(terminal_risk, transactions, labelled).row(4, named=True)
    assert last["TERMINAL_ID_RISK_7DAY_WINDOW"] == 0.5
    assert last["TERMINAL_ID_USUAL_FRAUDS_7DAY_WINDOW"] == 1


def test_what_a_card_pays_usually_leaves_payments_out_that_were_far_above_it() -> None:
    spent = compute(customer_spending, made_up([20.0, 40.0, 300.0, 60.0, 30.0], [0, 1, 2, 40, 59]))
    last = compute(usual_spending, spent).row(4, named=True)
    assert last["CUSTOMER_ID_USUAL_NB_TX"] == 3
    assert last["CUSTOMER_ID_USUAL_AVG_AMOUNT"] == pytest.approx(40.0)
    assert last["CUSTOMER_ID_AMOUNT_TO_USUAL_AVG"] == pytest.approx(0.75)


def test_payments_far_above_what_a_card_paid_before_are_counted_for_two_weeks_without_the_row_itself() -> (
    None
):
    # 24.9 is usual beside a mean of 23.3; the last one is the row itself.
    amounts, days = [10.0, 10.0, 50.0, 24.9, 300.0, 400.0, 500.0], [0, 1, 2, 14, 15, 16, 16.5]
    spent = compute(customer_spending, made_up(amounts, days))
    last = compute(usual_spending, spent).row(6, named=True)
    found = [last[f"CUSTOMER_ID_UNUSUAL_NB_TX_{days}DAY_WINDOW"] for days in (1, 3, 7, 14)]
    assert found == [1, 2, 2, 2]
    assert (last["CUSTOMER_ID_DAYS_SINCE_FIRST_UNUSUAL"], last["CUSTOMER_ID_DAYS_SINCE_LAST_UNUSUAL"]) == (
        1.5,
        0.5,
    )
    early = compute(usual_spending, spent).row(3, named=True)
    assert (
        early["CUSTOMER_ID_UNUSUAL_NB_TX_14DAY_WINDOW"],
        early["CUSTOMER_ID_DAYS_SINCE_FIRST_UNUSUAL"],
    ) == (1, 12)
    assert compute(usual_spending, spent).row(1, named=True)["CUSTOMER_ID_DAYS_SINCE_LAST_UNUSUAL"] is None


def test_a_terminal_without_known_reports_has_no_risk_and_no_dates() -> None:
    transactions = made_up([50.0, 60.0], [0, 6.9])
    labelled = labelled_by_report(transactions.with_columns(TX_FRAUD=1))
    last = compute(terminal_risk, transactions, labelled).row(1, named=True)
    assert {last[name] for name in terminal_risk.columns if "RISK" in name or "FRAUD" in name} == {0.0, None}
    assert last["TERMINAL_ID_NB_TX_30DAY_WINDOW"] == 0
    assert last["TERMINAL_ID_DAYS_SINCE_LAST_GENUINE"] is None
