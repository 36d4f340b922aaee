import re
from dataclasses import replace
from datetime import date, timedelta
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from my_platform.domains.fraud.report import PUBLISHED_WEEK, Attribution, ModelFacts, evaluation_report
from my_platform.errors import Refused
from my_platform.learning import metrics
from my_platform.learning.decisions import Costs
from my_platform.learning.evaluation import FullEvaluation, WeekFigures, evaluate_fully, week_figures

MODEL = ModelFacts(
    name="LightGBM",
    version="3f2a9c1e",
    training_set_digest="9c1e44f0d3b27a5581e0c6f2a9d0b733",
    window_days=35,
    training_rows=335_520,
    training_frauds=3_026,
    parameters={"num_leaves": 15, "learning_rate": 0.05},
    seeds={"LightGBM": 20180808},
)
FEATURES = ["TX_AMOUNT", "TERMINAL_ID_RISK_7DAY_WINDOW"]
ATTRIBUTION = Attribution(
    pl.DataFrame({"feature": FEATURES, "gain": [30.0, 10.0]}),
    pl.DataFrame({"feature": FEATURES, "contribution": [1.5, 0.2]}),
)


def scored_week(t0: date = PUBLISHED_WEEK, rows: int = 3_000) -> pl.DataFrame:
    """A week of scored transactions of 400 cards, with some frauds that the score finds."""
    random = np.random.default_rng(11)
    label = random.random(rows) < 0.05
    log_odds = random.normal(-4, 1, rows) + 5 * (label & (random.random(rows) < 0.8))
    return pl.DataFrame(
        {
            "day": [t0 + timedelta(days=int(number)) for number in random.integers(0, 7, rows)],
            "cluster": random.integers(0, 400, rows),
            "score": 1 / (1 + np.exp(-log_odds)),
            "label": label,
            "NEW_CARD": random.random(rows) < 0.1,
        }
    )


def judged(scored: pl.DataFrame) -> FullEvaluation:
    return evaluate_fully(scored, 100, slices=["NEW_CARD"], costs=Costs(check=5, miss=100))


def earlier() -> list[WeekFigures]:
    t0 = PUBLISHED_WEEK - timedelta(days=7)
    return [week_figures(str(t0), scored_week(t0), 100)]


def text_of(html: str) -> str:
    """What a reader sees, without markup."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", html, flags=re.S)))


@pytest.fixture(scope="module")
def html() -> str:
    return evaluation_report(PUBLISHED_WEEK, MODEL, judged(scored_week()), earlier(), ATTRIBUTION)


def test_the_same_arguments_give_the_same_bytes(html: str) -> None:
    again = evaluation_report(PUBLISHED_WEEK, MODEL, judged(scored_week()), earlier(), ATTRIBUTION)
    assert again.encode() == html.encode()


def test_the_order_of_parameters_does_not_matter(html: str) -> None:
    turned = replace(MODEL, parameters=dict(reversed(MODEL.parameters.items())))
    assert evaluation_report(PUBLISHED_WEEK, turned, judged(scored_week()), earlier(), ATTRIBUTION) == html


def test_the_file_loads_nothing_and_is_small(html: str) -> None:
    assert len(html.encode()) < 200_000
    assert not re.search(r"<(script|link|img|iframe|object|image|use)\b", html)
    assert not re.search(r"\b(src|href|action)\s*=|url\(|@import|https?:", html)


def test_every_element_that_is_opened_is_closed(html: str) -> None:
    class Nesting(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag != "meta":
                self.open.append(tag)

        def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    nesting = Nesting()
    nesting.feed(html)
    assert nesting.open == []


def test_it_says_which_week_model_rows_and_dates_it_is_about(html: str) -> None:
    text = text_of(html)
    assert "Test week T0 = 2018-08-08" in text
    assert "LightGBM 3f2a9c1e" in text
    assert "Training 2018-06-27 … 2018-07-31 · 335,520 transactions · 3,026 frauds (0.90%)" in text
    assert (
        f"Test 2018-08-08 … 2018-08-14 · 3,000 transactions · {scored_week()['label'].sum()} frauds" in text
    )
    for fact in ("9c1e44f0d3b27a5581e0c6f2a9d0b733", "num_leaves 15", "LightGBM (seed) 20180808"):
        assert fact in text


def test_a_training_window_cut_off_by_the_first_day_of_data_shows_that_day() -> None:
    cut = replace(MODEL, first_training_day=date(2018, 7, 1))
    text = text_of(evaluation_report(PUBLISHED_WEEK, cut, judged(scored_week())))
    assert "Training 2018-07-01 … 2018-07-31" in text
    assert "35 days, 2018-07-01 … 2018-07-31" in text


def test_it_shows_the_three_figures_of_the_scored_rows(html: str) -> None:
    found = metrics.evaluate(scored_week())
    text = text_of(html)
    interval = judged(scored_week()).intervals["average_precision"]
    said = f"{found.average_precision:.3f} {interval.low:.3f} to {interval.high:.3f}"
    assert f"Average precision {said}" in text
    assert f"AUC ROC {found.auc_roc:.3f}" in text
    assert f"Card precision at 100 {found.precision_at_k.mean:.3f}" in text


def test_it_shows_each_slice_with_its_counts(html: str) -> None:
    new = scored_week().filter("NEW_CARD")
    ratio = new["score"].sum() / new["label"].sum()
    assert f"new card: yes {new.height:,} {new['label'].sum()} {ratio:.2f}" in text_of(html)


def test_the_weeks_before_stand_beside_this_one(html: str) -> None:
    chart = re.search(r'<svg[^>]* aria-label="Average precision by week">.*?</svg>', html, flags=re.S)
    assert chart is not None
    assert re.findall(r"<title>(2018-\d\d-\d\d)", chart.group()) == ["2018-08-01", "2018-08-08"]


def test_the_costs_of_checks_and_missed_frauds_are_its_parameters(html: str) -> None:
    costs = judged(scored_week()).costs
    text = text_of(html)
    assert "Cost of checks (5 each) and missed frauds (100 each)" in text
    assert f"lowest {costs.cost_a_day:,.0f} a day, at {costs.alarms_a_day:,.0f} alarms" in text


def test_it_draws_nine_charts_with_titles(html: str) -> None:
    drawn = re.findall(r'<svg[^>]* aria-label="([^"]+)"', html)
    assert drawn == [
        "Precision-recall curve",
        "ROC curve",
        "Card precision at 100 by day",
        "Average precision by week",
        "Scores by class",
        "Calibration",
        "Cost of checks and missed frauds",
        "Feature contributions",
        "Feature importance by gain",
    ]
    assert "nan" not in re.sub(r"<style>.*?</style>", "", html, flags=re.S)


def test_long_names_of_features_are_told_apart() -> None:
    fits = "TERMINAL_ID_USUAL_FRAUD_RATE_30DAY_WINDOW"
    long = [f"TERMINAL_ID_SHARE_OF_UNUSUAL_PAYMENTS_WITHIN_{days}DAY_WINDOW" for days in (7, 30)]
    gains = pl.DataFrame({"feature": [fits, *long], "gain": [3.0, 2.0, 1.0]})
    html = evaluation_report(PUBLISHED_WEEK, MODEL, judged(scored_week()), (), Attribution(gains))
    shown = re.findall(r">(TERMINAL_ID_[^<:]*)<", html)
    assert shown[0] == fits
    assert len(set(shown)) == 3
    assert all(len(name) <= 44 for name in shown)
    assert [name.rpartition("WITHIN_")[2] for name in shown[1:]] == ["7DAY_WINDOW", "30DAY_WINDOW"]


def test_published_figures_are_compared_on_their_own_week(html: str) -> None:
    text = text_of(html)
    assert "Published for this week: S = 2018-07-25, T0 = 2018-08-08" in text
    assert "Logistic regression 0.871 0.606 0.291" in text
    assert 'class="better"' in html


def test_on_another_week_the_published_figures_are_marked_as_another_weeks() -> None:
    t0 = date(2018, 7, 25)
    html = evaluation_report(t0, MODEL, judged(scored_week(t0)), (), ATTRIBUTION)
    assert "Published for another week: S = 2018-07-25, T0 = 2018-08-08" in text_of(html)
    assert 'class="better"' not in html
    assert 'class="worse"' not in html


def test_a_model_that_tells_nothing_of_its_features_has_no_chart_of_them() -> None:
    html = evaluation_report(PUBLISHED_WEEK, MODEL, judged(scored_week()))
    assert "Feature importance" not in html
    assert "What moves the score" not in html


def test_scores_of_exactly_zero_and_one_can_be_drawn() -> None:
    hard = scored_week().with_columns(score=pl.col("label").cast(pl.Float64))
    assert "nan" not in re.sub(
        r"<style>.*?</style>", "", evaluation_report(PUBLISHED_WEEK, MODEL, judged(hard)), flags=re.S
    )


def test_names_are_escaped() -> None:
    html = evaluation_report(PUBLISHED_WEEK, replace(MODEL, version="<b>&"), judged(scored_week()))
    assert "&lt;b&gt;&amp;" in html


def test_a_week_without_frauds_is_refused() -> None:
    with pytest.raises(Refused, match="0 positives in 3000 rows"):
        judged(scored_week().with_columns(label=pl.lit(False)))
