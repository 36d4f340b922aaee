"""Charts speak of rows labelled 1 as their page calls them."""

import numpy as np

from my_platform.learning import charts, metrics
from my_platform.learning.decisions import Costs, cost_curve

LABELS = np.arange(200) % 8 == 0
SCORES = np.where(LABELS, 0.6, 0.2) + np.arange(200) / 1_000


def drawn(*counted: str) -> list[str]:
    return [
        charts.roc_chart(metrics.roc_points(LABELS, SCORES), *counted),
        charts.precision_recall_chart(metrics.precision_recall_points(LABELS, SCORES), 0.1, *counted),
        charts.histogram_chart(metrics.score_histogram(LABELS, SCORES), *counted),
        charts.calibration_chart(metrics.calibration_bins(LABELS, SCORES), *counted),
        charts.cost_chart(cost_curve(LABELS, SCORES, Costs(1.0, 10.0), 1), *counted),
    ]


def test_a_page_says_what_is_counted() -> None:
    assert all("faulty pumps" in chart and "positives" not in chart for chart in drawn("faulty pumps"))


def test_without_a_word_for_it_nothing_of_a_domain_is_said() -> None:
    assert all("positives" in chart and "fraud" not in chart for chart in drawn())
