"""The weekly monitor of the service: figures by day and model, its checks, and its page."""

import math
from datetime import date
from pathlib import Path

import polars as pl

from assets_tests.domains.fraud.conftest import SERVED, Served
from assets_tests.serving.service_log import table
from my_platform.domains.fraud.parameters import WORDS
from my_platform.serving import monitor
from my_platform.serving.monitor_page import monitor_page

WEEK = SERVED[0]


def figures(**given: object) -> pl.DataFrame:
    row = {
        "day": date(2025, 1, 1),
        "model": "m",
        "week": "2025-01-01",
        "bundle": "b" * 64,
        "rows": 1000,
        "flagged": 10,
        "degraded": 0,
        "mean_score": 0.01,
        "score_index": 0.1,
        "drifted_columns": 0,
        "worst_column": "",
        "p50_us": 400,
        "p99_us": 900,
        "labelled": 1000,
        "positives": 12,
        "expected": 10.0,
        "found": 6,
        "alarms": 10,
        "average_precision": 0.6,
    }
    return pl.DataFrame([{**row, **given}], {name: column.type for name, column in monitor.COLUMNS.items()})


def failed(found: pl.DataFrame) -> list[str]:
    return [each.check for each in monitor.answers(found, monitor.Limits()) if not each.passed]


def test_the_week_is_told_by_day_and_model_from_the_log(served: Served) -> None:
    found = table(served.session, "serving_monitor", WEEK)
    logged = {day: table(served.session, "validated/scored_requests", day) for day in SERVED}
    assert [str(day) for day in found["day"]] == SERVED
    assert found["rows"].to_list() == [frame.height for frame in logged.values()]
    assert found["flagged"].to_list() == [int(frame["FLAGGED"].sum()) for frame in logged.values()]
    assert found["mean_score"].to_list() == [math.fsum(f["PROBABILITY"]) / f.height for f in logged.values()]
    assert found["labelled"].to_list() == [0] * len(SERVED)


def test_the_page_of_a_week_is_small_and_loads_nothing(served: Served) -> None:
    path: Path = served.home / "reports/fraud/serving" / f"{WEEK}.html"
    page = path.read_text()
    assert page == monitor_page(WEEK, table(served.session, "serving_monitor", WEEK), WORDS)
    assert "<th>Frauds</th>" in page
    assert len(page) < 2_000_000
    assert not [word for word in ("http://", "https://", "<script", "src=") if word in page]
    assert all(day in page for day in SERVED)


def test_labels_give_the_realised_figures() -> None:
    served = pl.DataFrame(
        {
            "ID": [1, 2, 3, 4],
            "AT": [date(2025, 1, 1)] * 4,
            "MODEL": ["m"] * 4,
            "WEEK": ["w"] * 4,
            "BUNDLE": ["b"] * 4,
            "PROBABILITY": [0.9, 0.8, 0.2, 0.1],
            "FLAGGED": [True, True, False, False],
            "DEGRADED": pl.Series([None] * 4, dtype=pl.String),
            "LATENCY_US": [100, 400, 200, 300],
        }
    ).with_columns(pl.col("AT").cast(pl.Datetime("us")))
    labels = pl.DataFrame({"ID": [1, 2, 3], "label": [True, False, True]})
    none = pl.DataFrame(
        schema={"day": pl.Date, "column": pl.String, "value": pl.Float64, "upper": pl.Float64}
    )
    (row,) = monitor.monitored(served, pl.Series([], dtype=pl.Float64), labels, none, "ID", "AT").to_dicts()
    assert (row["labelled"], row["positives"], row["found"], row["alarms"]) == (3, 2, 1, 2)
    assert (row["p50_us"], row["p99_us"], row["score_index"]) == (200, 400, None)
    assert row["expected"] == math.fsum([0.9, 0.8, 0.2])
    assert row["average_precision"] == (1 + 2 / 3) / 2


def test_a_week_as_it_should_be_passes_every_check() -> None:
    assert failed(figures()) == []


def test_scores_that_drift_are_told() -> None:
    assert failed(figures(score_index=0.4)) == ["served_scores"]


def test_frauds_far_from_what_the_scores_say_are_told() -> None:
    assert failed(figures(positives=40)) == ["served_labels"]
    answers = monitor.answers(figures(positives=40), monitor.Limits(), WORDS)
    assert [each.description for each in answers if not each.passed] == ["2025-01-01 m 2025-01-01: frauds 40"]


def test_many_degraded_rows_are_told() -> None:
    assert failed(figures(degraded=20)) == ["served_whole"]


def test_a_day_of_few_rows_is_not_judged() -> None:
    assert failed(figures(rows=50, degraded=20, score_index=0.9, positives=40)) == []
