"""What the fraud models are fitted on: a week's training set, and its replay without the future.

The partition is T0, the Wednesday on which the week begins that the model serves.
"""

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Any, Literal

import polars as pl

from my_platform.domains.fraud import protocol
from my_platform.domains.fraud.evaluation import SHORTEST_WINDOW_DAYS
from my_platform.domains.fraud.features import (
    FEATURES,
    OF_FEATURES,
    TO_PAST_AVG,
    customer_spending,
    joined,
    terminal_risk,
    usual_spending,
)
from my_platform.errors import Refused
from my_platform.features.replay import replay, sample, those_of
from my_platform.incremental.bucketed import Apart
from my_platform.incremental.checks import Check, CheckResult, Judgement
from my_platform.incremental.declare import Asset, Column, Grain, Produced, Read, same, table
from my_platform.learning.leaks import TRAINING_CHECKS, Roles, judge_training_set

DELAY_DAYS = 7
ROLES = Roles(
    key="TRANSACTION_ID",
    time="TX_DATETIME",
    known_at="REPORTED_AT",
    label="IS_FRAUD",
    features=FEATURES,
    made_of_label=("TX_FRAUD", "TX_FRAUD_SCENARIO"),
)
TRAINING_LINEAGE = {
    **{name: (("customer_spending", name),) for name in ("TRANSACTION_ID", "TX_DATETIME")},
    **{name: (made_of,) for name, made_of in OF_FEATURES.items()},
    **{name: (("validated/fraud_reports", name),) for name in ("IS_FRAUD", "REPORTED_AT")},
}
REPLAYED_ROWS = 200
REPLAY_CHECK = Check(
    "no_future_in_features",
    f"The features of {REPLAYED_ROWS} rows are the same without what was not known at their time.",
    about="training_set",
)


def training_set(
    spending: pl.LazyFrame,
    usual: pl.LazyFrame,
    risk: pl.LazyFrame,
    reports: pl.LazyFrame,
    partition: str,
    parameters: Mapping[str, Any],
) -> pl.LazyFrame:
    """Features of the training days joined with the labels that were known before T0, guarded against leaks."""
    rows = joined(spending, usual, risk)
    return protocol.training_rows(
        rows, reports, date.fromisoformat(partition), parameters["window_days"]
    ).select("TRANSACTION_ID", "TX_DATETIME", *FEATURES, "IS_FRAUD", "REPORTED_AT")


def judge_rows(rows: pl.LazyFrame, partition: str, parameters: Mapping[str, Any]) -> Judgement:
    """How all rows of a training set answer ``TRAINING_CHECKS``, and how many days and frauds they are of.

    Raises:
        Refused: the answer to a check is no.
    """
    t0 = date.fromisoformat(partition)
    first, end = protocol.training_days(t0, parameters["window_days"])
    checks = judge_training_set(
        rows,
        ROLES,
        rows_before=datetime.combine(end, time()),
        labels_before=datetime.combine(t0, time()),
    )
    by_day = (
        rows.group_by(day=pl.col("TX_DATETIME").dt.date())
        .agg(pl.col("IS_FRAUD").sum())
        .collect(engine="streaming")
    )
    days, start = by_day.height, min(by_day["day"], default=t0)
    holes = days_without_rows(by_day["day"], t0, parameters["window_days"])
    about: dict[str, Any] = {
        "days": days,
        "frauds": int(by_day["IS_FRAUD"].sum()),
        "first_day": str(start),
    }
    if holes:
        about["days_without_rows"] = holes
    if start > first:
        about["window"] = f"clipped to {days} days: data begin on {start}, not {first}"
    return Judgement(checks, about)


def training_set_replay(
    training_set: pl.LazyFrame,
    transactions: pl.LazyFrame,
    spending: pl.LazyFrame,
    labelled: pl.LazyFrame,
    reports: pl.LazyFrame,
    partition: str,
    inputs: Mapping[str, Any],
) -> Produced:
    """How many rows of the training set, and of how many features, came out the same without the future."""
    keys = training_set.select("TRANSACTION_ID").collect(engine="streaming")
    chosen = sample(keys, "TRANSACTION_ID", REPLAYED_ROWS)["TRANSACTION_ID"]
    rows = those_of(training_set, chosen)
    replayed_rows = those_of(transactions, chosen)
    customers, terminals = replayed_rows["CUSTOMER_ID"], replayed_rows["TERMINAL_ID"]
    of_terminals = those_of(labelled, terminals)
    told = those_of(reports, of_terminals["TRANSACTION_ID"])
    known = protocol.as_reported(of_terminals.lazy(), told.lazy()).collect()
    of_customers = those_of(transactions, customers)
    found = [
        *replay(customer_spending, rows, of_customers),
        *replay(usual_spending, rows, those_of(spending, customers)),
        *replay(terminal_risk, rows, replayed_rows, known, known_at="KNOWN_AT"),
    ]
    numbers = {"rows": rows.height, "features": len(FEATURES), "features_that_differ": len(found)}
    results = [CheckResult(REPLAY_CHECK.name, not found, numbers, str(found[0]) if found else "")]
    if found:
        raise Refused(f"{len(found)} features saw the future: {found[0]}. Correct the feature", results)
    replayed = {
        "training_set": [inputs["training_set"][partition]],
        "rows": [rows.height],
        "features": [len(FEATURES)],
    }
    return Produced(pl.DataFrame(replayed), metadata=numbers, checks=results)


def days_without_rows(times: pl.Series, t0: date, window_days: int) -> list[str]:
    """The days of a training window, from the first row on, on which no labelled transaction happened."""
    _, end = protocol.training_days(t0, window_days)
    there = set(times.dt.date().unique())
    first = min(there, default=end)
    days = (first + timedelta(days=number) for number in range((end - first).days))
    return [str(day) for day in days if day not in there]


def training_assets(
    *, features: Mapping[str, Column], window_days: int, gaps: Literal["wait", "pass"] = "wait"
) -> list[Asset]:
    """The weekly training sets over so many days of features with these columns, and their replays."""
    week: dict[str, Any] = {"grain": Grain.WEEK, "owners": ("team:fraud-models",), "group": "training"}
    first, last_day = -DELAY_DAYS - window_days, -DELAY_DAYS - 1
    training = table(
        "training_set",
        reads={
            "spending": Read("customer_spending", first, last_day, gaps, SHORTEST_WINDOW_DAYS),
            "usual": Read("usual_spending", first, last_day, gaps, SHORTEST_WINDOW_DAYS),
            "risk": Read("terminal_risk", first, last_day, gaps, SHORTEST_WINDOW_DAYS),
            "reports": Read("validated/fraud_reports", first, -1, gaps, 1),
        },
        parameters={"window_days": window_days},
        apart=Apart(
            dict.fromkeys(("spending", "usual", "risk", "reports"), "TRANSACTION_ID"),
            ("TX_DATETIME", "TRANSACTION_ID"),
        ),
        judge=judge_rows,
        columns={
            "TRANSACTION_ID": Column(pl.Int64(), "the transaction"),
            "TX_DATETIME": Column(pl.Datetime("us"), "when it happened, UTC"),
            **{name: features[name] for name in FEATURES},
            "IS_FRAUD": Column(pl.Boolean(), "the label as it was known before T0"),
            "REPORTED_AT": Column(pl.Datetime("us"), "when the label became known, UTC"),
        },
        own_checks=TRAINING_CHECKS,
        lineage=TRAINING_LINEAGE,
        **week,
    )(training_set)
    replayed = table(
        "training_set_replay",
        reads={
            "training_set": same("training_set", scanned=True),
            "transactions": Read(
                "validated/transactions",
                first + customer_spending.reads().first,
                last_day,
                "pass",
                0,
                scanned=True,
            ),
            "spending": Read(
                "customer_spending",
                first + usual_spending.reads().first,
                last_day,
                "pass",
                0,
                ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TX_AMOUNT", TO_PAST_AVG),
                scanned=True,
            ),
            "labelled": Read(
                "labelled_transactions",
                first + terminal_risk.reads().first,
                last_day,
                "pass",
                0,
                scanned=True,
            ),
            "reports": Read(
                "validated/fraud_reports",
                first + terminal_risk.reads().first,
                last_day,
                "pass",
                0,
                scanned=True,
            ),
        },
        columns={
            "training_set": Column(pl.String(), "data version of the training set that was replayed"),
            "rows": Column(pl.Int64(), "training rows whose features were computed again"),
            "features": Column(pl.Int64(), "features that came out the same"),
        },
        own_checks=(REPLAY_CHECK,),
        **week,
    )(training_set_replay)
    return [training, replayed]
