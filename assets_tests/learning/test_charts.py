"""Charts speak of rows labelled 1 as their page calls them."""

from datetime import date

import numpy as np
import polars as pl

from my_platform.learning import charts, metrics
from my_platform.learning.decisions import Costs, cost_curve
from my_platform.learning.words import Words

LABELS = np.arange(200) % 8 == 0
SCORES = np.where(LABELS, 0.6, 0.2) + np.arange(200) / 1_000
ROWS = pl.DataFrame(
    {"day": [date(2025, 1, 1)] * 200, "cluster": np.arange(200) % 20, "score": SCORES, "label": LABELS}
)


def drawn(*words: Words) -> list[str]:
    return [
        charts.roc_chart(metrics.roc_points(LABELS, SCORES), *words),
        charts.precision_recall_chart(metrics.precision_recall_points(LABELS, SCORES), 0.1, *words),
        charts.histogram_chart(metrics.score_histogram(LABELS, SCORES), *words),
        charts.calibration_chart(metrics.calibration_bins(LABELS, SCORES), *words),
        charts.cost_chart(cost_curve(LABELS, SCORES, Costs(1.0, 10.0), 1), *words),
        charts.daily_precision_chart(metrics.precision_at_k(ROWS, 10), *words),
    ]


def test_a_page_says_what_is_counted() -> None:
    words = Words("leaks", "tight", "pumps")
    shown = drawn(words)

    assert all("leaks" in chart and "positives" not in chart for chart in shown)
    assert "share of tight rows" in shown[0]
    assert "20 pumps in all" in shown[-1]


def test_without_a_word_for_it_nothing_of_a_domain_is_said() -> None:
    assert all("positives" in chart for chart in drawn())
