"""The same work as the platform's build by one plain script: polars, numpy, LightGBM, DuckDB, Parquet files.

It calls the very functions that the domain declares, each for the whole range at once where that is possible,
and writes a file for each day or week. What it leaves out is what the platform adds: no Dagster, no content
hashes, no traces, no MLflow, no dbt, nothing incremental.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any


class Stages:
    """Wall-clock seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


def build(landing: str, out: str, models: bool, rounds: int, threads: int) -> dict[str, Any]:
    """Build everything from landed files into a folder; seconds by stage, and figures to compare by."""
    stage = Stages()
    with stage("start"):
        import polars as pl

        from my_platform.domains.fraud import contracts
        from my_platform.domains.fraud.features import (
            TO_PAST_AVG,
            customer_spending,
            terminal_risk,
            usual_spending,
        )
        from my_platform.domains.fraud.labels import labelled_transactions
        from my_platform.features import offline

    target = Path(out)

    def write(name: str, table: pl.DataFrame, column: str, days: list[str]) -> None:
        folder = target / name
        folder.mkdir(parents=True)
        keyed = table.with_columns(pl.col(column).dt.date().cast(pl.String).alias("__day"))
        parts = keyed.partition_by("__day", as_dict=True, include_key=False)
        for day in days:
            parts.get((day,), table.clear()).write_parquet(
                folder / f"{day}.parquet", compression="zstd", compression_level=1
            )

    def landed(name: str) -> dict[str, pl.DataFrame]:
        return {path.stem: pl.read_parquet(path) for path in sorted(Path(landing, name).glob("*.parquet"))}

    tables = {}
    for name, contract in (
        ("transactions", contracts.TRANSACTIONS),
        ("fraud_reports", contracts.FRAUD_REPORTS),
    ):
        with stage("raw"):
            files = landed(name)
        with stage("validated"):
            valid = []
            for day, table in files.items():
                checked = contract.model.validate(table, lazy=True)
                assert (checked[contract.time].dt.date().cast(pl.String) == day).all()
                valid.append(checked.sort(contract.sort_by))
            tables[name] = pl.concat(valid)
            write(f"validated/{name}", tables[name], contract.time, list(files))
    transactions, reports = tables["transactions"], tables["fraud_reports"]
    days = sorted(path.stem for path in Path(landing, "transactions").glob("*.parquet"))

    with stage("features"):
        spending = offline.compute(customer_spending, transactions)
        write("customer_spending", spending, "TX_DATETIME", days)
        usual = offline.compute(usual_spending, spending)
        write("usual_spending", usual, "TX_DATETIME", days)
        labelled = (
            reports.join(transactions, on="TRANSACTION_ID", how="inner")
            .join(spending.select("TRANSACTION_ID", TO_PAST_AVG), on="TRANSACTION_ID", how="left")
            .select(list(labelled_transactions.columns))
            .sort("REPORTED_AT", "TRANSACTION_ID")
        )
        reported = sorted(path.stem for path in Path(landing, "fraud_reports").glob("*.parquet"))
        write("labelled_transactions", labelled, "REPORTED_AT", reported)
        risk = offline.compute(terminal_risk, transactions, labelled)
        write("terminal_risk", risk, "TX_DATETIME", days)

    with stage("marts"):
        mart_rows = _marts(transactions, labelled, _customers(landing), target)

    figures: dict[str, Any] = {"mart_rows": mart_rows, "transactions": transactions.height}
    if models:
        features = (spending, usual, risk)
        figures["weeks"] = _weeks(stage, target, transactions, reports, features, rounds, threads)
    return {"seconds": stage.seconds, "figures": figures}


def _weeks(
    stage: Stages,
    target: Path,
    transactions: Any,
    reports: Any,
    features: tuple[Any, Any, Any],
    rounds: int,
    threads: int,
) -> dict[str, Any]:
    """Training sets, models, predictions and reports of all weeks: each week's rows are cut from memory."""
    import polars as pl

    with stage("training"):
        from my_platform.domains.fraud import (
            contracts,
            evaluation,
            exports,
            models,
            parameters,
            protocol,
            training,
        )
        from my_platform.storage.lake import file_in, json_in

    window = parameters.TRAINING_WINDOW_DAYS
    options = {
        "window_days": window,
        "lightgbm": dict(parameters.LIGHTGBM_PARAMETERS),
        "rounds": rounds,
        "seed": parameters.SEED,
    }
    first, last = _span(transactions, "TX_DATETIME")
    first_risk = _span(features[-1], "TX_DATETIME")[0]
    first_report, last_report = _span(reports, "REPORTED_AT")
    metrics = {}
    scored_before: list[Any] = []
    tested_before: list[Any] = []

    def cut(table: Any, column: str, start: date, end: date) -> Any:
        day = pl.col(column).dt.date()
        return table.lazy().filter((day >= start) & (day < end))

    for t0 in _wednesdays(first, last_report + timedelta(days=1)):
        start, end = protocol.training_days(t0, window)
        trained = min(end, last + timedelta(days=1)) - max(start, first_risk)
        if trained.days < training.SHORTEST_WINDOW_DAYS or end > last + timedelta(days=1):
            continue
        if last_report < t0 - timedelta(days=1) or first_report >= t0:
            continue
        key = str(t0)
        with stage("training"):
            made = training.training_set(
                *(cut(table, "TX_DATETIME", start, end) for table in features),
                cut(reports, "REPORTED_AT", start, t0),
                key,
                options,
            ).collect()
            training.judge_rows(made.lazy(), key, options)
            _save(made, target / "training_set" / f"{key}.parquet")
        with stage("models"):
            inputs = {"training_set": {key: ""}, "model": {key: "0" * 12}}
            replayed = pl.LazyFrame({"training_set": [""], "rows": [0]})
            model = models.fraud_lightgbm(made.lazy(), replayed, key, options, inputs, threads).table
            path = target / "fraud_lightgbm" / f"{key}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(file_in(model, "model.txt"))
            exported = exports.fraud_lightgbm_onnx(model.lazy(), made.lazy(), key, inputs).table
            path.with_suffix(".onnx").write_bytes(file_in(exported, "model.onnx"))
        with stage("evaluation"):
            week_end = t0 + timedelta(days=7)
            if last < week_end - timedelta(days=1):
                continue
            scores = models.predictions(
                model.lazy(),
                made.lazy(),
                cut(transactions, "TX_DATETIME", t0, week_end),
                *(cut(table, "TX_DATETIME", t0, week_end) for table in features),
                threads,
            ).table
            _save(scores, target / "predictions" / f"{key}.parquet")
            if last_report < t0 + timedelta(days=13) or first > t0 - timedelta(days=14):
                continue
            before = t0 - timedelta(days=14)
            tested = evaluation.test_set(
                cut(transactions, "TX_DATETIME", before, week_end),
                *(cut(table, "TX_DATETIME", t0, week_end) for table in features),
                cut(reports, "REPORTED_AT", before, t0 + timedelta(days=14)),
                pl.LazyFrame(schema=contracts.FRAUD_SCENARIOS.schema),
                key,
            ).collect()
            _save(tested, target / "test_set" / f"{key}.parquet")
            found = evaluation.evaluation(
                scores.lazy(),
                tested.lazy(),
                pl.concat([scores.head(0), *scored_before[-evaluation.EARLIER_WEEKS :]]).lazy(),
                pl.concat([tested.head(0), *tested_before[-evaluation.EARLIER_WEEKS :]]).lazy(),
                cut(transactions, "TX_DATETIME", before, t0 - timedelta(days=7)),
                cut(reports, "REPORTED_AT", before, t0),
                model.lazy(),
                key,
                {"model": "fraud_lightgbm", "chosen_on": ()},
                inputs,
                evaluation.lightgbm_attribution,
            ).table
            scored_before.append(scores)
            tested_before.append(tested)
            metrics[key] = json_in(found, "metrics.json")["metrics"]
            path = target / "evaluation" / f"{key}.html"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(file_in(found, "report.html"))
            path.with_suffix(".json").write_text(json.dumps(metrics[key]))
    return metrics


def _marts(transactions: Any, labelled: Any, customers: Any, target: Path) -> dict[str, int]:
    """The marts' aggregations in DuckDB, over the tables in memory."""
    import duckdb

    with duckdb.connect() as connection:
        connection.register("customers", customers)
        connection.register("transactions", transactions)
        connection.register("labelled", labelled)
        rows = {}
        for name, query in _MARTS.items():
            found = connection.execute(query).pl()
            rows[name] = found.height
            folder = target / "marts" / name
            folder.mkdir(parents=True)
            for (day,), part in found.partition_by("partition_day", as_dict=True).items():
                part.write_parquet(folder / f"{day}.parquet", compression="zstd", compression_level=1)
    return rows


def _customers(landing: str) -> Any:
    import polars as pl

    path = Path(landing, "customers.parquet")
    schema = {"CUSTOMER_ID": pl.Int64, "MEAN_AMOUNT": pl.Float64}
    return pl.read_parquet(path, columns=list(schema)) if path.exists() else pl.DataFrame(schema=schema)


def _span(table: Any, column: str) -> tuple[date, date]:
    return table[column].min().date(), table[column].max().date()


def _wednesdays(first: date, last: date) -> Iterator[date]:
    day = first + timedelta(days=(2 - first.weekday()) % 7)
    while day <= last:
        yield day
        day += timedelta(days=7)


def _save(table: Any, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    table.write_parquet(path, compression="zstd", compression_level=1)


_SEGMENT = """case when MEAN_AMOUNT is null or isnan(MEAN_AMOUNT) then 'unknown' when MEAN_AMOUNT < {0} then 'low'
    when MEAN_AMOUNT < {1} then 'middle' when MEAN_AMOUNT < {2} then 'high' else 'top' end"""
_FRAUD = """count(*) as labelled, count(*) filter (where IS_FRAUD) as frauds,
    count(*) filter (where IS_FRAUD)::double / count(*)::double as fraud_rate,
    sum(cents)::bigint as amount_cents, coalesce(sum(cents) filter (where IS_FRAUD), 0)::bigint as fraud_amount_cents"""
_SEGMENT = _SEGMENT.format(25, 50, 75)
_MARTS = {
    "daily_volume_by_segment": f"""
        select TX_DATETIME::date as partition_day, {_SEGMENT} as segment, count(*) as transactions,
            count(distinct t.CUSTOMER_ID) as cards, sum(round(TX_AMOUNT * 100)::bigint)::bigint as amount_cents
        from transactions t left join customers c on t.CUSTOMER_ID = c.CUSTOMER_ID group by all order by all""",
    "daily_fraud_by_segment": f"""
        select partition_day, segment, {_FRAUD} from (
            select REPORTED_AT::date as partition_day, {_SEGMENT} as segment, IS_FRAUD,
                round(TX_AMOUNT * 100)::bigint as cents
            from labelled t left join customers c on t.CUSTOMER_ID = c.CUSTOMER_ID)
        group by partition_day, segment order by all""",
    "daily_fraud_by_terminal": f"""
        select partition_day, terminal_id, {_FRAUD} from (
            select REPORTED_AT::date as partition_day, TERMINAL_ID as terminal_id, IS_FRAUD,
                round(TX_AMOUNT * 100)::bigint as cents from labelled)
        group by partition_day, terminal_id order by all""",
}
