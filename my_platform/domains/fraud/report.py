"""The evaluation report of one test week: a single HTML file that loads nothing and holds no clock."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from html import escape
from typing import Any

import polars as pl

from my_platform.domains.fraud import protocol
from my_platform.domains.fraud.parameters import WORDS
from my_platform.learning import charts, metrics
from my_platform.learning.bootstrap import Interval
from my_platform.learning.evaluation import FullEvaluation, WeekFigures
from my_platform.learning.gate_section import MARK
from my_platform.learning.report_style import STYLE
from my_platform.learning.slices import Slice

PUBLISHED_TRAINING_WEEK = date(2018, 7, 25)
PUBLISHED_WEEK = date(2018, 8, 8)
PUBLISHED_SOURCE = (
    "Le Borgne, Siblini, Lebichot, Bontempi: Reproducible Machine Learning for Credit Card Fraud Detection – "
    "Practical Handbook, 2022"
)


@dataclass(frozen=True)
class PublishedFigures:
    """What the Handbook reports of one of its models."""

    model: str
    auc_roc: float
    average_precision: float
    precision_at_k: float


PUBLISHED_FOR_WEEK = (
    PublishedFigures("Logistic regression", 0.871, 0.606, 0.291),
    PublishedFigures("Random forest", 0.867, 0.658, 0.287),
    PublishedFigures("XGBoost", 0.862, 0.639, 0.273),
    PublishedFigures("Feed-forward net", 0.864, 0.653, 0.286),
)
PUBLISHED_MEAN_OF_FOUR_WEEKS = (
    PublishedFigures("XGBoost", 0.869, 0.687, 0.303),
    PublishedFigures("Random forest", 0.870, 0.678, 0.299),
    PublishedFigures("Feed-forward net", 0.876, 0.675, 0.303),
    PublishedFigures("LSTM", 0.876, 0.665, 0.297),
    PublishedFigures("Balanced bagging", 0.879, 0.680, 0.305),
)


@dataclass(frozen=True)
class ModelFacts:
    """What a report says of the model and of what it was fitted on.

    `first_training_day` is given where the data begin later than the training window does, `chosen_on` the weeks
    whose tests the parameters were chosen by.
    """

    name: str
    version: str
    training_set_digest: str
    window_days: int
    training_rows: int
    training_frauds: int
    parameters: Mapping[str, object]
    seeds: Mapping[str, int]
    first_training_day: date | None = None
    chosen_on: tuple[str, ...] = ()

    def training_days(self, t0: date) -> tuple[date, date]:
        """The first day of the rows it was fitted on, and the day after their last."""
        first, end = protocol.training_days(t0, self.window_days)
        return self.first_training_day or first, end


@dataclass(frozen=True)
class Attribution:
    """What a model tells of its features; None where it tells nothing.

    `importance` has the columns feature and gain, `contributions` feature and contribution, each with the
    highest first.
    """

    importance: pl.DataFrame | None = None
    contributions: pl.DataFrame | None = None

    def as_json(self) -> dict[str, Any]:
        found = self.contributions
        return {"contributions": {} if found is None else dict(found.rows())}


def evaluation_report(
    t0: date,
    model: ModelFacts,
    found: FullEvaluation,
    earlier: Sequence[WeekFigures] = (),
    attribution: Attribution = Attribution(),
) -> str:
    """The report of a model on the test week that begins on `t0`, as HTML of some tens of kilobytes.

    `earlier` are the weeks before, the oldest first. The same arguments give the same bytes.
    """
    title = f"{model.name}, test week {t0.isoformat()}"
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{STYLE}{charts.STYLE}</style></head><body><main>",
            *_heading(t0, model),
            *_headline(t0, found),
            *_sets(t0, model, found.figures),
            '<section class="figures">',
            *_figures(found, [*earlier, _this_week(t0, found)]),
            *_attribution(attribution),
            *_slices(found.slices),
            "</section>",
            MARK,
            '<section class="tables">',
            *_comparison(t0, found),
            *_provenance(t0, model),
            "</section></main></body></html>\n",
        ]
    )


def _heading(t0: date, model: ModelFacts) -> list[str]:
    first, end = protocol.test_days(t0)
    return [
        "<header>",
        '<p class="kicker">Payment-card fraud · evaluation report</p>',
        f"<h1>Test week T0 = {t0.isoformat()}</h1>",
        f"<p>{escape(model.name)} <code>{escape(model.version)}</code>, fitted on labels known before "
        f"{t0.isoformat()}, tested on {_days(first, end)}</p>",
        *(
            [
                '<p class="warning">The parameters were chosen by this week, among others: these figures flatter '
                "the model, and the gate does not look at them.</p>"
            ]
            if t0.isoformat() in model.chosen_on
            else []
        ),
        "</header>",
    ]


def _headline(t0: date, found: FullEvaluation) -> list[str]:
    """The figures in large with their intervals, three of them beside the best published one."""
    lines = ['<section class="headline">']
    for label, name in (
        ("Average precision", "average_precision"),
        ("AUC ROC", "auc_roc"),
        (f"Card precision at {found.figures.precision_at_k.k}", "precision_at_k"),
    ):
        interval = found.intervals[name]
        best = max(PUBLISHED_FOR_WEEK, key=lambda figures: getattr(figures, name))
        published: float = getattr(best, name)
        beside = f"best published {published:.3f} ({best.model.lower()})"
        if t0 == PUBLISHED_WEEK:
            kind = "better" if interval.value >= published else "worse"
            beside = f'<b class="{kind}">{interval.value - published:+.3f}</b> {beside}'
        else:
            beside = f'{beside}, week of <span class="date">{PUBLISHED_WEEK.isoformat()}</span>'
        lines += _card(label, interval, beside)
    beside = f"{found.expected:,.0f} frauds expected by the scores, {found.figures.positives:,} found"
    return [*lines, *_card("Expected ÷ found frauds", found.intervals["calibration"], beside), "</section>"]


def _card(label: str, figure: Interval, beside: str) -> list[str]:
    return [
        f'<div class="card"><p class="label">{label}</p><p class="value">{figure.value:.3f} '
        f'<span class="range">{figure.low:.3f} to {figure.high:.3f}</span></p>',
        f'<p class="beside">{beside}</p></div>',
    ]


def _sets(t0: date, model: ModelFacts, found: metrics.Evaluation) -> list[str]:
    """The sizes and dates of the training and the test set."""
    sets = (
        ("Training", model.training_rows, model.training_frauds, model.training_days(t0)),
        ("Test", found.rows, found.positives, protocol.test_days(t0)),
    )
    lines = ['<section class="sets">']
    for name, rows, frauds, days in sets:
        share = f" ({frauds / rows:.2%})" if rows else ""
        lines.append(
            f"<p><b>{name}</b> {_days(*days)} · {rows:,} transactions · {frauds:,} frauds{share}</p>"
        )
    return [*lines, "</section>"]


def _this_week(t0: date, found: FullEvaluation) -> WeekFigures:
    return WeekFigures(t0.isoformat(), **found.intervals)


def _figures(found: FullEvaluation, weeks: Sequence[WeekFigures]) -> Iterator[str]:
    """The charts, each with its title and legend."""
    label, score, cards = found.scored["label"], found.scored["score"], found.figures.precision_at_k
    costs = found.costs
    yield _figure(
        "Precision and recall",
        {"line": "this model", "reference": "chance: the share of frauds"},
        charts.precision_recall_chart(
            metrics.precision_recall_points(label, score), found.figures.positives / found.figures.rows, WORDS
        ),
    )
    yield _figure(
        "ROC curve",
        {"line": "this model", "reference": "chance"},
        charts.roc_chart(metrics.roc_points(label, score), WORDS),
    )
    yield _figure(
        f"Card precision at {cards.k} by day",
        {"bar": "found", "pale": "compromised, undetected before", "reference": f"mean {cards.mean:.3f}"},
        charts.daily_precision_chart(cards, WORDS, "Card precision"),
    )
    yield _figure(
        "Average precision by week",
        {"bar": "each week's own model, with 95 % interval", "reference": "mean"},
        charts.weeks_chart(weeks),
    )
    yield _figure(
        "Score distribution",
        {"negative": "genuine", "positive": "fraud"},
        charts.histogram_chart(metrics.score_histogram(label, score), WORDS),
    )
    yield _figure(
        "Calibration",
        {"bar": "bins by quantile, with 95 % interval", "reference": "perfectly calibrated"},
        charts.calibration_chart(metrics.calibration_bins(label, score), WORDS),
    )
    yield _figure(
        f"Cost of checks ({costs.costs.check:g} each) and missed frauds ({costs.costs.miss:g} each)",
        {
            "line": f"lowest {costs.cost_a_day:,.0f} a day, at {costs.alarms_a_day:,.0f} alarms",
            "reference": f"no checks: {costs.cost_a_day_of_nothing:,.0f} a day",
        },
        charts.cost_chart(costs, WORDS),
    )


def _attribution(attribution: Attribution) -> Iterator[str]:
    """What the model tells of its features, as far as it does."""
    if attribution.contributions is not None:
        yield _figure(
            "What moves the score",
            {"bar": "mean of the absolute SHAP values of the test rows"},
            charts.contributions_chart(attribution.contributions),
        )
    if attribution.importance is not None:
        yield _figure(
            "Feature importance",
            {"bar": "share of the gain of all splits"},
            charts.importance_chart(attribution.importance),
        )


def _slices(slices: Sequence[Slice]) -> list[str]:
    """The figures of the slices, one row each."""
    lines = [
        '<div class="panel"><h2>By slice</h2><table><thead><tr><th>Slice</th><th>Rows</th><th>Frauds</th>',
        "<th>Expected ÷ found</th><th>Average precision (95 %)</th></tr></thead><tbody>",
    ]
    for part in slices:
        ratio = f"{part.calibration:.2f}" if part.calibration is not None else "–"
        found = part.average_precision
        precision = f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})" if found else "–"
        lines.append(
            f"<tr><td>{escape(part.name)}</td><td>{part.rows:,}</td><td>{part.positives:,}</td>"
            f"<td>{ratio}</td><td>{precision}</td></tr>"
        )
    note = (
        "No average precision where all rows are frauds, or none. Genuine rows stand in the slice of each kind "
        "of fraud, so that nothing is expected of it by itself."
    )
    return [*lines, "</tbody></table>", f'<p class="note">{note}</p></div>']


def _comparison(t0: date, found: FullEvaluation) -> list[str]:
    """The published figures below this model's."""
    which = "this week" if t0 == PUBLISHED_WEEK else "another week"
    week = f"S = {PUBLISHED_TRAINING_WEEK.isoformat()}, T0 = {PUBLISHED_WEEK.isoformat()}"
    groups = (
        (f"Published for {which}: {week}", PUBLISHED_FOR_WEEK),
        ("Published mean of four weeks, from S = 2018-07-25 to 2018-08-15", PUBLISHED_MEAN_OF_FOUR_WEEKS),
    )
    lines = [
        '<div class="panel"><h2>Beside the published figures</h2><table><thead><tr><th>Model</th>',
        f"<th>AUC ROC</th><th>Average precision</th><th>CP@{found.figures.precision_at_k.k}</th></tr></thead><tbody>",
        _figures_row(
            f"This model, T0 = {t0.isoformat()}",
            found.metrics.values(),
            "own",
        ),
    ]
    for heading, published in groups:
        lines.append(f'<tr class="group"><td colspan="4">{heading}</td></tr>')
        lines += [
            _figures_row(line.model, (line.auc_roc, line.average_precision, line.precision_at_k))
            for line in published
        ]
    note = f"Source: {PUBLISHED_SOURCE}. Trained on 7 days, same test rows."
    return [*lines, "</tbody></table>", f'<p class="note">{note}</p></div>']


def _provenance(t0: date, model: ModelFacts) -> list[str]:
    """Parameters, seeds, data window and digest."""
    window = f"{model.window_days} days, {_days(*model.training_days(t0))}"
    facts = {
        "Model version": model.version,
        "Training set": model.training_set_digest,
        "Training window": window,
        **({"Parameters chosen by weeks": ", ".join(model.chosen_on)} if model.chosen_on else {}),
    }
    seeds = {f"{name} (seed)": value for name, value in sorted(model.seeds.items())}
    parameters = dict(sorted(model.parameters.items()))
    lines = ['<div class="panel"><h2>How the model was made</h2><table class="facts"><tbody>']
    for name, value in {**facts, **parameters, **seeds}.items():
        lines.append(f"<tr><td>{escape(name)}</td><td><code>{escape(str(value))}</code></td></tr>")
    return [*lines, "</tbody></table></div>"]


def _figure(title: str, legend: Mapping[str, str], chart: str) -> str:
    keys = "".join(f'<span class="key key-{kind}">{escape(text)}</span>' for kind, text in legend.items())
    return f'<figure class="panel"><h2>{title}</h2><figcaption>{keys}</figcaption>\n{chart}</figure>'


def _figures_row(name: str, values: Iterable[float], kind: str = "") -> str:
    cells = "".join(f"<td>{value:.3f}</td>" for value in values)
    return f'<tr class="{kind}"><td>{escape(name)}</td>{cells}</tr>'


def _days(first: date, end: date) -> str:
    """Both ends of the days [first, end)."""
    return f"{first.isoformat()} … {(end - timedelta(days=1)).isoformat()}"
