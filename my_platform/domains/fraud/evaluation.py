"""How the fraud models are judged: a week's test set, which all models share, and the evaluation of each model.

The partition is T0, the Wednesday on which the week begins that the models serve.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import polars as pl

from my_platform.domains.fraud import protocol
from my_platform.domains.fraud.features import FEATURES, OF_FEATURES, joined
from my_platform.domains.fraud.parameters import CARDS_A_DAY, CHECK_COST, MISSED_FRAUD_COST
from my_platform.domains.fraud.report import Attribution, ModelFacts, evaluation_report
from my_platform.incremental.declare import Asset, Column, Grain, Produced, Read, same, table
from my_platform.learning.decisions import Costs
from my_platform.learning.evaluation import WeekFigures, evaluate_fully, week_figures
from my_platform.learning.fitting import feature_importance, mean_contributions
from my_platform.storage.lake import file_in, files_table, json_in

FILES = {"name": Column(pl.String(), "name of a file"), "content": Column(pl.Binary(), "its bytes")}
SHORTEST_WINDOW_DAYS = 7
SCENARIOS = "fraud_scenarios"
UNKNOWN_SCENARIO = 0
# The last is a kind of fraud, null in genuine rows, which stand in the slice of each kind.
SLICES = ("AMOUNT_FROM", "NEW_CARD", "NEW_TERMINAL", "FRAUD_SCENARIO")
EARLIER_WEEKS = 4
_AMOUNT_BANDS = (0, 25, 50, 100, 220)
_ROWS_FOR_ATTRIBUTION = 500
Attribute = Callable[[pl.DataFrame, pl.DataFrame], Attribution]
_WEEK: dict[str, Any] = {"grain": Grain.WEEK, "owners": ("team:fraud-models",), "group": "evaluation"}


def test_set(
    transactions: pl.LazyFrame,
    spending: pl.LazyFrame,
    usual: pl.LazyFrame,
    risk: pl.LazyFrame,
    reports: pl.LazyFrame,
    scenarios: pl.LazyFrame,
    partition: str,
) -> pl.LazyFrame:
    """The week's test rows by the Handbook's protocol, with their features, labels and slices."""
    features = joined(spending, usual, risk)
    # Of several reports on one fraud the last tells its kind.
    kinds = scenarios.sort("REPORTED_AT").unique("TRANSACTION_ID", keep="last", maintain_order=True)
    return (
        protocol.test_rows(transactions, reports, date.fromisoformat(partition))
        .join(features.drop("TX_DATETIME", "CUSTOMER_ID"), on="TRANSACTION_ID", how="inner")
        .join(kinds.select("TRANSACTION_ID", "SCENARIO"), on="TRANSACTION_ID", how="left")
        .select(
            "TRANSACTION_ID",
            "TX_DATETIME",
            "CUSTOMER_ID",
            *FEATURES,
            AMOUNT_FROM=_amount_band(),
            NEW_CARD=pl.col("CUSTOMER_ID_NB_TX_30DAY_WINDOW") == 1,
            NEW_TERMINAL=pl.col("TERMINAL_ID_NB_TX_30DAY_WINDOW") == 0,
            FRAUD_SCENARIO=pl.when("IS_FRAUD").then(pl.col("SCENARIO").fill_null(UNKNOWN_SCENARIO)),
            IS_FRAUD="IS_FRAUD",
        )
        .sort("TX_DATETIME", "TRANSACTION_ID")
    )


def evaluation(
    predictions: pl.LazyFrame,
    test_set: pl.LazyFrame,
    earlier_predictions: pl.LazyFrame,
    earlier_test_sets: pl.LazyFrame,
    transactions: pl.LazyFrame,
    reports: pl.LazyFrame,
    model: pl.LazyFrame,
    partition: str,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, Any],
    attribute: Attribute,
) -> Produced:
    """The week's figures with their intervals, the weeks before beside them, and a report to read."""
    t0 = date.fromisoformat(partition)
    bundle, name = model.collect(), parameters["model"]
    about = json_in(bundle, "about.json")
    tested = test_set.collect()
    found = evaluate_fully(
        scored_rows(tested.lazy(), predictions).collect(),
        CARDS_A_DAY,
        slices=SLICES,
        costs=Costs(check=CHECK_COST, miss=MISSED_FRAUD_COST),
    )
    earlier = _earlier_weeks(scored_rows(earlier_test_sets, earlier_predictions).collect(), t0)
    benchmark = (
        protocol.training_rows(transactions, reports, t0, SHORTEST_WINDOW_DAYS).select("IS_FRAUD").collect()
    )
    attribution = attribute(bundle, _spread_rows(tested))
    version = inputs["model"][partition]
    figures = {
        "week": partition,
        "model": f"{name} {version[:12]}",
        "model_version": version,
        "train": about["train"],
        "test": {
            "from": str(protocol.test_days(t0)[0]),
            "to": str(tested["TX_DATETIME"].dt.date().max()),
            "rows": found.figures.rows,
            "frauds": found.figures.positives,
        },
        "benchmark": {
            "train_rows": benchmark.height,
            "train_frauds": int(benchmark["IS_FRAUD"].sum()),
            "test_rows": found.figures.rows,
            "test_frauds": found.figures.positives,
        },
        "seeds": about["seeds"],
        "models": {name: found.metrics},
        **found.as_json(),
        "weeks": [week.as_json() for week in earlier],
        "chosen_on": partition in parameters["chosen_on"],
        **attribution.as_json(),
    }
    facts = _facts(name, version, about, parameters["chosen_on"])
    html = evaluation_report(t0, facts, found, earlier, attribution)
    return Produced(
        files_table({"metrics.json": json.dumps(figures, sort_keys=True, indent=1), "report.html": html}),
        metadata={
            **found.metrics,
            "calibration": found.intervals["calibration"].value,
            "test_rows": found.figures.rows,
            "test_frauds": found.figures.positives,
        },
    )


def scored_rows(test_set: pl.LazyFrame, predictions: pl.LazyFrame) -> pl.LazyFrame:
    """The test rows as `learning.evaluation` takes them: day, cluster, score, label, and the slices that are there."""
    slices = [name for name in SLICES if name in test_set.collect_schema().names()]
    return (
        test_set.join(predictions.select("TRANSACTION_ID", "score"), on="TRANSACTION_ID", how="inner")
        .sort("TX_DATETIME", "TRANSACTION_ID")
        .select(
            *slices,
            day=pl.col("TX_DATETIME").dt.date(),
            cluster=pl.col("CUSTOMER_ID"),
            score=pl.col("score"),
            label=pl.col("IS_FRAUD"),
        )
    )


def no_attribution(_bundle: pl.DataFrame, _rows: pl.DataFrame) -> Attribution:
    """For models that do not tell what moves them."""
    return Attribution()


def lightgbm_attribution(bundle: pl.DataFrame, rows: pl.DataFrame) -> Attribution:
    """What LightGBM says of its own features: their gain, and their contributions on some rows."""
    text = file_in(bundle, "model.txt").decode()
    return Attribution(feature_importance(text), mean_contributions(text, rows.select(FEATURES)))


def test_set_asset(features: Mapping[str, Column]) -> Asset:
    """The weekly test sets, over features with these columns."""
    return table(
        "test_set",
        reads={
            "transactions": Read(
                "validated/transactions", -14, 6, "wait", 21, ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID")
            ),
            "spending": Read("customer_spending", 0, 6, "wait", 7),
            "usual": Read("usual_spending", 0, 6, "wait", 7),
            "risk": Read("terminal_risk", 0, 6, "wait", 7),
            "reports": Read("validated/fraud_reports", -14, 13, "wait", 14),
            "scenarios": Read(f"validated/{SCENARIOS}", 0, 13, "optional", 0),
        },
        kinds=("polars",),
        columns={
            "TRANSACTION_ID": Column(pl.Int64(), "the transaction"),
            "TX_DATETIME": Column(pl.Datetime("us"), "when it happened, UTC"),
            "CUSTOMER_ID": Column(pl.Int64(), "the card that paid"),
            **{name: features[name] for name in FEATURES},
            "AMOUNT_FROM": Column(pl.Int64(), "lower end of the band that the amount is in"),
            "NEW_CARD": Column(pl.Boolean(), "whether the card made no other transaction within 30 days"),
            "NEW_TERMINAL": Column(pl.Boolean(), "whether no report on the terminal is known from 30 days"),
            "FRAUD_SCENARIO": Column(
                pl.Int64(),
                "the kind of a fraud, 0 for unknown; null where it is genuine",
            ),
            "IS_FRAUD": Column(pl.Boolean(), "the label as it was known before T0 + 14"),
        },
        lineage={
            **{
                name: (("validated/transactions", name),)
                for name in ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID")
            },
            **{name: (made_of,) for name, made_of in OF_FEATURES.items()},
            "AMOUNT_FROM": (OF_FEATURES["TX_AMOUNT"],),
            "NEW_CARD": (OF_FEATURES["CUSTOMER_ID_NB_TX_30DAY_WINDOW"],),
            "NEW_TERMINAL": (OF_FEATURES["TERMINAL_ID_NB_TX_30DAY_WINDOW"],),
            "FRAUD_SCENARIO": ((f"validated/{SCENARIOS}", "SCENARIO"),),
            "IS_FRAUD": (("validated/fraud_reports", "IS_FRAUD"), ("validated/fraud_reports", "REPORTED_AT")),
        },
        **_WEEK,
    )(test_set)


def evaluation_asset(
    name: str,
    model: str,
    predictions: str,
    *,
    attribute: Attribute = no_attribution,
    chosen_on: tuple[str, ...] = (),
    publish: Any = None,
) -> Asset:
    """The weekly evaluation of one model by its predictions.

    Args:
        chosen_on: the weeks whose tests the model's parameters were chosen by.
        attribute: what a model's table of files and some test rows tell of its features.
    """
    first = -7 * EARLIER_WEEKS
    ids = ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID")
    asset = table(
        name,
        reads={
            "predictions": same(predictions),
            "test_set": same("test_set"),
            "earlier_predictions": Read(predictions, first, -7, "pass", 0, ("TRANSACTION_ID", "score")),
            "earlier_test_sets": Read("test_set", first, -7, "pass", 0, (*ids, "IS_FRAUD")),
            "transactions": Read("validated/transactions", -14, -8, "wait", 7, ids[:2]),
            "reports": Read("validated/fraud_reports", -14, -1, "wait", 7),
            "model": same(model),
        },
        parameters={"model": model, "chosen_on": chosen_on},
        runtime={"attribute": attribute},
        kinds=("html",),
        columns=FILES,
        lineage={
            "name": (),
            "content": (
                (predictions, "score"),
                (model, "content"),
                *(
                    ("test_set", name)
                    for name in ("TX_DATETIME", "CUSTOMER_ID", *FEATURES, *SLICES, "IS_FRAUD")
                ),
                ("validated/transactions", "TX_DATETIME"),
                *(("validated/fraud_reports", name) for name in ("REPORTED_AT", "IS_FRAUD")),
            ),
        },
        publish=publish,
        **_WEEK,
    )(evaluation)
    return replace(asset, code=(*asset.code, attribute))


def _amount_band() -> pl.Expr:
    """The highest lower end that TX_AMOUNT reaches."""
    band: pl.Expr = pl.lit(_AMOUNT_BANDS[0], pl.Int64)
    for low in _AMOUNT_BANDS[1:]:
        band = pl.when(pl.col("TX_AMOUNT") >= low).then(pl.lit(low, pl.Int64)).otherwise(band)
    return band


def _earlier_weeks(scored: pl.DataFrame, t0: date) -> list[WeekFigures]:
    """The figures of the weeks before, the oldest first."""
    weeks = []
    for back in reversed(range(1, EARLIER_WEEKS + 1)):
        first = t0 - timedelta(days=7 * back)
        rows = scored.filter(pl.col("day").is_between(first, first + timedelta(days=6)))
        if rows["label"].any() and not rows["label"].all():
            weeks.append(week_figures(str(first), rows, CARDS_A_DAY))
    return weeks


def _spread_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows at equal steps, so many that means over them are steady."""
    return rows.gather_every(max(1, rows.height // _ROWS_FOR_ATTRIBUTION))


def _facts(name: str, version: str, about: Mapping[str, Any], chosen_on: Sequence[str]) -> ModelFacts:
    return ModelFacts(
        name=name,
        version=version[:12],
        training_set_digest=about["training_set"],
        window_days=about["window_days"],
        training_rows=about["train"]["rows"],
        training_frauds=about["train"]["frauds"],
        parameters=about["parameters"],
        seeds=about["seeds"],
        first_training_day=date.fromisoformat(about["train"]["from"]),
        chosen_on=tuple(chosen_on),
    )
