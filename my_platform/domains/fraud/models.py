"""Weekly assets of card fraud: training set, its replay, model, predictions and evaluation.

The partition is T0, the Wednesday on which the week begins that the model serves.
"""

import json
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Any, Literal

import polars as pl

from my_platform.domains.fraud import protocol
from my_platform.domains.fraud.features import customer_spending, terminal_risk
from my_platform.domains.fraud.report import ModelFacts, evaluation_report
from my_platform.errors import Refused
from my_platform.features.replay import replay, sample
from my_platform.incremental.checks import Check, CheckResult
from my_platform.incremental.declare import Asset, Column, Grain, Produced, Read, same, table
from my_platform.learning.fitting import feature_importance, fit_lightgbm, predict_lightgbm
from my_platform.learning.leaks import (
    SCORING_CHECKS,
    TRAINING_CHECKS,
    Roles,
    judge_scores,
    judge_training_set,
)
from my_platform.learning.metrics import evaluate
from my_platform.storage.lake import file_in, files_table, json_in

SPENDING = tuple(customer_spending.columns)
RISK = tuple(terminal_risk.columns)
FEATURES = (*SPENDING, *RISK)
FILES = {"name": Column(pl.String(), "name of a file"), "content": Column(pl.Binary(), "its bytes")}
DELAY_DAYS = 7
SHORTEST_WINDOW_DAYS = 7
CARDS_A_DAY = 100
ROLES = Roles(
    key="TRANSACTION_ID",
    time="TX_DATETIME",
    known_at="REPORTED_AT",
    label="IS_FRAUD",
    features=FEATURES,
    made_of_label=("TX_FRAUD", "TX_FRAUD_SCENARIO"),
)
OF_FEATURES = {
    **{name: ("customer_spending", name) for name in SPENDING},
    **{name: ("terminal_risk", name) for name in RISK},
}
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
    risk: pl.LazyFrame,
    reports: pl.LazyFrame,
    partition: str,
    parameters: Mapping[str, Any],
) -> Produced:
    """Features of the training days joined with the labels that were known before T0, guarded against leaks."""
    t0 = date.fromisoformat(partition)
    rows = spending.join(risk.drop("TX_DATETIME"), on="TRANSACTION_ID", how="inner")
    found = (
        protocol.training_rows(rows, reports, t0, parameters["window_days"])
        .select("TRANSACTION_ID", "TX_DATETIME", *FEATURES, "IS_FRAUD", "REPORTED_AT")
        .collect()
    )
    first, end = protocol.training_days(t0, parameters["window_days"])
    checks = judge_training_set(
        found,
        ROLES,
        rows_before=datetime.combine(end, time()),
        labels_before=datetime.combine(t0, time()),
    )
    start = found.select(pl.col("TX_DATETIME").min().dt.date()).item() or t0
    days = found.select(pl.col("TX_DATETIME").dt.date().n_unique()).item()
    holes = days_without_rows(found["TX_DATETIME"], t0, parameters["window_days"])
    return Produced(
        found,
        metadata={
            "days": days,
            "frauds": int(found["IS_FRAUD"].sum()),
            "first_day": str(start),
            **({"days_without_rows": holes} if holes else {}),
            **(
                {"window": f"clipped to {days} days: data begin on {start}, not {first}"}
                if start > first
                else {}
            ),
        },
        checks=checks,
    )


def training_set_replay(
    training_set: pl.LazyFrame,
    transactions: pl.LazyFrame,
    labelled: pl.LazyFrame,
    reports: pl.LazyFrame,
    partition: str,
    inputs: Mapping[str, Any],
) -> Produced:
    """How many rows of the training set, and of how many features, came out the same without the future."""
    rows = sample(training_set.collect(), "TRANSACTION_ID", REPLAYED_ROWS)
    every = transactions.collect()
    terminals = every.join(rows, on="TRANSACTION_ID", how="semi").select("TERMINAL_ID").unique().lazy()
    known = protocol.as_reported(labelled.join(terminals, on="TERMINAL_ID", how="semi"), reports).collect()
    found = [
        *replay(customer_spending, rows, every),
        *replay(terminal_risk, rows, every, known, known_at="KNOWN_AT"),
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


def fraud_lightgbm(
    training_set: pl.LazyFrame,
    replay: pl.LazyFrame,
    partition: str,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, Any],
    threads: int,
) -> Produced:
    """Boosted trees fitted on the week's training set, as LightGBM's own text."""
    replayed = replay.collect().row(0, named=True)
    if replayed["training_set"] != inputs["training_set"][partition]:
        raise Refused(
            "the training set is another one than was replayed without the future last; see training_set_replay"
        )
    rows = training_set.collect()
    model = fit_lightgbm(
        rows.select(FEATURES),
        rows["IS_FRAUD"].to_numpy(),
        parameters["lightgbm"],
        parameters["rounds"],
        parameters["seed"],
        threads,
    )
    times = rows["TX_DATETIME"].dt.date()
    holes = days_without_rows(rows["TX_DATETIME"], date.fromisoformat(partition), parameters["window_days"])
    about = {
        "features": list(FEATURES),
        "lightgbm": parameters["lightgbm"],
        "rounds": parameters["rounds"],
        "seed": parameters["seed"],
        "window_days": parameters["window_days"],
        "training_set": inputs["training_set"][partition],
        "train": {
            "from": str(times.min()),
            "to": str(times.max()),
            "rows": rows.height,
            "frauds": int(rows["IS_FRAUD"].sum()),
            **({"days_without_rows": holes} if holes else {}),
        },
        "replayed_rows": replayed["rows"],
    }
    return Produced(
        files_table({"model.txt": model, "about.json": json.dumps(about, sort_keys=True, indent=1)}),
        metadata={
            "training_rows": rows.height,
            "training_frauds": about["train"]["frauds"],
            "trees": parameters["rounds"],
            "model_bytes": len(model),
        },
    )


def predictions(
    model: pl.LazyFrame,
    training_set: pl.LazyFrame,
    transactions: pl.LazyFrame,
    spending: pl.LazyFrame,
    risk: pl.LazyFrame,
    threads: int,
) -> Produced:
    """The probability of fraud of every transaction of the week that the model serves."""
    text = file_in(model.collect(), "model.txt").decode()
    of_week = transactions.select("TRANSACTION_ID", "CUSTOMER_ID").collect()
    rows = (
        of_week.lazy()
        .join(spending, on="TRANSACTION_ID", how="inner")
        .join(risk.drop("TX_DATETIME"), on="TRANSACTION_ID", how="inner")
        .sort("TX_DATETIME", "TRANSACTION_ID")
        .collect()
    )
    scores = predict_lightgbm(text, rows.select(FEATURES), num_threads=threads)
    found = rows.select("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID").with_columns(score=pl.Series(scores))
    fitted_on = training_set.select("TRANSACTION_ID").collect().to_series()
    checks = judge_scores(found, fitted_on, of_week.height, key="TRANSACTION_ID", score="score")
    return Produced(found, checks=checks)


def evaluation(
    predictions: pl.LazyFrame,
    transactions: pl.LazyFrame,
    reports: pl.LazyFrame,
    model: pl.LazyFrame,
    partition: str,
    inputs: Mapping[str, Any],
) -> Produced:
    """The week's figures by the Handbook's protocol, and a report to read."""
    t0 = date.fromisoformat(partition)
    bundle = model.collect()
    about = json_in(bundle, "about.json")
    tested = protocol.test_rows(transactions, reports, t0).join(
        predictions.select("TRANSACTION_ID", "score"), on="TRANSACTION_ID", how="inner"
    )
    scored = (
        tested.sort("TX_DATETIME", "TRANSACTION_ID")
        .select(
            day=pl.col("TX_DATETIME").dt.date(),
            card=pl.col("CUSTOMER_ID"),
            score=pl.col("score"),
            fraud=pl.col("IS_FRAUD"),
        )
        .collect()
    )
    found = evaluate(scored, CARDS_A_DAY)
    benchmark = (
        protocol.training_rows(transactions, reports, t0, SHORTEST_WINDOW_DAYS).select("IS_FRAUD").collect()
    )
    first, _ = protocol.test_days(t0)
    version = inputs["model"][partition]
    facts = ModelFacts(
        name="fraud_lightgbm",
        version=version[:12],
        training_set_digest=about["training_set"],
        window_days=about["window_days"],
        training_rows=about["train"]["rows"],
        training_frauds=about["train"]["frauds"],
        parameters={**about["lightgbm"], "rounds": about["rounds"]},
        seeds={"lightgbm": about["seed"]},
        first_training_day=date.fromisoformat(about["train"]["from"]),
    )
    metrics = {
        "auc_roc": found.auc_roc,
        "average_precision": found.average_precision,
        "card_precision_at_100": found.card_precision.mean,
    }
    figures = {
        "week": partition,
        "model": f"fraud_lightgbm {version[:12]}",
        "model_version": version,
        "metrics": metrics,
        "train": about["train"],
        "test": {
            "from": str(first),
            "to": str(scored["day"].max()),
            "rows": found.rows,
            "frauds": found.frauds,
        },
        "benchmark": {
            "train_rows": benchmark.height,
            "train_frauds": int(benchmark["IS_FRAUD"].sum()),
            "test_rows": found.rows,
            "test_frauds": found.frauds,
        },
        "seeds": {"lightgbm": about["seed"]},
        "models": {"fraud_lightgbm": metrics},
    }
    importance = feature_importance(file_in(bundle, "model.txt").decode())
    html = evaluation_report(t0, facts, scored, importance)
    return Produced(
        files_table({"metrics.json": json.dumps(figures, sort_keys=True, indent=1), "report.html": html}),
        metadata={**metrics, "test_rows": found.rows, "test_frauds": found.frauds},
    )


def weekly_assets(
    *,
    features: Mapping[str, Column],
    window_days: int,
    lightgbm: Mapping[str, Any],
    rounds: int,
    seed: int,
    threads: int,
    gaps: Literal["wait", "pass"] = "wait",
    publish_model: Any = None,
    publish_report: Any = None,
) -> list[Asset]:
    """The weekly assets for one choice of training window and parameters, over features with these columns."""
    week: dict[str, Any] = {"grain": Grain.WEEK, "owners": ("team:fraud-models",)}
    first, last_day = -DELAY_DAYS - window_days, -DELAY_DAYS - 1
    training = table(
        "training_set",
        reads={
            "spending": Read("customer_spending", first, last_day, gaps, SHORTEST_WINDOW_DAYS),
            "risk": Read("terminal_risk", first, last_day, gaps, SHORTEST_WINDOW_DAYS),
            "reports": Read("validated/fraud_reports", first, -1, gaps, 1),
        },
        parameters={"window_days": window_days},
        group="training",
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
            "training_set": same("training_set"),
            "transactions": Read(
                "validated/transactions", first + customer_spending.reads().first, last_day, "pass", 0
            ),
            "labelled": Read(
                "labelled_transactions", first + terminal_risk.reads().first, last_day, "pass", 0
            ),
            "reports": Read(
                "validated/fraud_reports", first + terminal_risk.reads().first, last_day, "pass", 0
            ),
        },
        group="training",
        columns={
            "training_set": Column(pl.String(), "data version of the training set that was replayed"),
            "rows": Column(pl.Int64(), "training rows whose features were computed again"),
            "features": Column(pl.Int64(), "features that came out the same"),
        },
        own_checks=(REPLAY_CHECK,),
        **week,
    )(training_set_replay)
    model = table(
        "fraud_lightgbm",
        reads={"training_set": same("training_set"), "replay": same("training_set_replay")},
        parameters={"lightgbm": dict(lightgbm), "rounds": rounds, "seed": seed, "window_days": window_days},
        runtime={"threads": threads},
        group="models",
        kinds=("lightgbm", "mlflow"),
        columns=FILES,
        lineage={
            "name": (),
            "content": tuple(("training_set", name) for name in (*FEATURES, "IS_FRAUD")),
        },
        publish=publish_model,
        **week,
    )(fraud_lightgbm)
    scores = table(
        "predictions",
        reads={
            "model": same("fraud_lightgbm"),
            "training_set": same("training_set", columns=["TRANSACTION_ID"]),
            "transactions": Read(
                "validated/transactions", 0, 6, "wait", 7, ("TRANSACTION_ID", "CUSTOMER_ID")
            ),
            "spending": Read("customer_spending", 0, 6, "wait", 7),
            "risk": Read("terminal_risk", 0, 6, "wait", 7),
        },
        runtime={"threads": threads},
        group="evaluation",
        kinds=("lightgbm",),
        columns={
            "TRANSACTION_ID": Column(pl.Int64(), "the transaction"),
            "TX_DATETIME": Column(pl.Datetime("us"), "when it happened, UTC"),
            "CUSTOMER_ID": Column(pl.Int64(), "the card that paid"),
            "score": Column(pl.Float64(), "probability of fraud"),
        },
        own_checks=SCORING_CHECKS,
        lineage={
            "TRANSACTION_ID": (("validated/transactions", "TRANSACTION_ID"),),
            "TX_DATETIME": (("customer_spending", "TX_DATETIME"),),
            "CUSTOMER_ID": (("validated/transactions", "CUSTOMER_ID"),),
            "score": (("fraud_lightgbm", "content"), *OF_FEATURES.values()),
        },
        **week,
    )(predictions)
    figures = table(
        "evaluation",
        reads={
            "predictions": same("predictions"),
            "transactions": Read(
                "validated/transactions", -14, 6, "wait", 14, ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID")
            ),
            "reports": Read("validated/fraud_reports", -14, 13, "wait", 14),
            "model": same("fraud_lightgbm"),
        },
        group="evaluation",
        kinds=("html",),
        columns=FILES,
        lineage={
            "name": (),
            "content": (
                ("predictions", "score"),
                ("fraud_lightgbm", "content"),
                *(("validated/transactions", name) for name in ("TX_DATETIME", "CUSTOMER_ID")),
                *(("validated/fraud_reports", name) for name in ("REPORTED_AT", "IS_FRAUD")),
            ),
        },
        publish=publish_report,
        **week,
    )(evaluation)
    return [training, replayed, model, scores, figures]
