"""The evaluation report of one test week: a single HTML file that loads nothing and holds no clock."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from html import escape

import polars as pl

from my_platform.domains.fraud import protocol
from my_platform.learning import charts, metrics

CARDS_PER_DAY = 100
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
    card_precision: float


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

    `first_training_day` is given where the data begin later than the training window does.
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

    def training_days(self, t0: date) -> tuple[date, date]:
        """The first day of the rows it was fitted on, and the day after their last."""
        first, end = protocol.training_days(t0, self.window_days)
        return self.first_training_day or first, end


def evaluation_report(
    t0: date, model: ModelFacts, scored: pl.DataFrame, importance: pl.DataFrame | None = None
) -> str:
    """The report of a model on the test week that begins on `t0`, as HTML of some tens of kilobytes.

    `scored` holds the test rows of `protocol.test_rows` with the columns day (date), card, score (in [0, 1])
    and fraud (boolean); `importance` has the columns feature and gain, the highest gain first. The same
    arguments give the same bytes.

    Raises Refused where the week has no fraud, no genuine row, or a value is missing.
    """
    found = metrics.evaluate(scored, CARDS_PER_DAY)
    title = f"Fraud model, test week {t0.isoformat()}"
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{_STYLE}{charts.STYLE}</style></head><body><main>",
            *_heading(t0, model),
            *_headline(t0, found),
            *_sets(t0, model, found),
            '<section class="figures">',
            *_figures(found, scored, importance),
            "</section>",
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
        "</header>",
    ]


def _headline(t0: date, found: metrics.Evaluation) -> list[str]:
    """The three figures in large, each beside the best published one."""
    lines = ['<section class="headline">']
    for label, name, value in (
        ("Average precision", "average_precision", found.average_precision),
        ("AUC ROC", "auc_roc", found.auc_roc),
        (f"Card precision at {CARDS_PER_DAY}", "card_precision", found.card_precision.mean),
    ):
        best = max(PUBLISHED_FOR_WEEK, key=lambda figures: getattr(figures, name))
        published: float = getattr(best, name)
        beside = f"best published {published:.3f} ({best.model.lower()})"
        if t0 == PUBLISHED_WEEK:
            kind = "better" if value >= published else "worse"
            beside = f'<b class="{kind}">{value - published:+.3f}</b> {beside}'
        else:
            beside = f'{beside}, week of <span class="date">{PUBLISHED_WEEK.isoformat()}</span>'
        lines += [
            f'<div class="card"><p class="label">{label}</p><p class="value">{value:.3f}</p>',
            f'<p class="beside">{beside}</p></div>',
        ]
    return [*lines, "</section>"]


def _sets(t0: date, model: ModelFacts, found: metrics.Evaluation) -> list[str]:
    """The sizes and dates of the training and the test set."""
    sets = (
        ("Training", model.training_rows, model.training_frauds, model.training_days(t0)),
        ("Test", found.rows, found.frauds, protocol.test_days(t0)),
    )
    lines = ['<section class="sets">']
    for name, rows, frauds, days in sets:
        share = f" ({frauds / rows:.2%})" if rows else ""
        lines.append(
            f"<p><b>{name}</b> {_days(*days)} · {rows:,} transactions · {frauds:,} frauds{share}</p>"
        )
    return [*lines, "</section>"]


def _figures(
    found: metrics.Evaluation, scored: pl.DataFrame, importance: pl.DataFrame | None
) -> Iterator[str]:
    """The charts, each with its title and legend."""
    fraud, score, cards = scored["fraud"], scored["score"], found.card_precision
    yield _figure(
        "Precision and recall",
        {"line": "this model", "reference": "chance: the share of frauds"},
        charts.precision_recall_chart(
            metrics.precision_recall_points(fraud, score), found.frauds / found.rows
        ),
    )
    yield _figure(
        "ROC curve",
        {"line": "this model", "reference": "chance"},
        charts.roc_chart(metrics.roc_points(fraud, score)),
    )
    yield _figure(
        f"Card precision at {cards.k} by day",
        {"bar": "found", "pale": "compromised, undetected before", "reference": f"mean {cards.mean:.3f}"},
        charts.daily_precision_chart(cards.by_day, cards.k, cards.mean),
    )
    yield _figure(
        "Score distribution",
        {"genuine": "genuine", "fraud": "fraud"},
        charts.histogram_chart(metrics.score_histogram(fraud, score)),
    )
    yield _figure(
        "Calibration",
        {"bar": "bins by quantile, with 95 % interval", "reference": "perfectly calibrated"},
        charts.calibration_chart(metrics.calibration_bins(fraud, score)),
    )
    if importance is not None and not importance.is_empty():
        yield _figure(
            "Feature importance",
            {"bar": "share of the gain of all splits"},
            charts.importance_chart(importance),
        )


def _comparison(t0: date, found: metrics.Evaluation) -> list[str]:
    """The published figures below this model's."""
    which = "this week" if t0 == PUBLISHED_WEEK else "another week"
    week = f"S = {PUBLISHED_TRAINING_WEEK.isoformat()}, T0 = {PUBLISHED_WEEK.isoformat()}"
    groups = (
        (f"Published for {which}: {week}", PUBLISHED_FOR_WEEK),
        ("Published mean of four weeks, from S = 2018-07-25 to 2018-08-15", PUBLISHED_MEAN_OF_FOUR_WEEKS),
    )
    lines = [
        '<div class="panel"><h2>Beside the published figures</h2><table><thead><tr><th>Model</th>',
        f"<th>AUC ROC</th><th>Average precision</th><th>CP@{CARDS_PER_DAY}</th></tr></thead><tbody>",
        _figures_row(
            f"This model, T0 = {t0.isoformat()}",
            (found.auc_roc, found.average_precision, found.card_precision.mean),
            "own",
        ),
    ]
    for heading, published in groups:
        lines.append(f'<tr class="group"><td colspan="4">{heading}</td></tr>')
        lines += [
            _figures_row(line.model, (line.auc_roc, line.average_precision, line.card_precision))
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


_STYLE = """
* { box-sizing: border-box; }
body { margin: 0; background: #f5f7fa; color: #0f172a; font: 14px/1.45 Helvetica, Arial, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 28px 24px 40px; }
p, h1, h2, figure { margin: 0; }
h1 { font-size: 27px; letter-spacing: -.01em; margin: 2px 0 4px; }
h2 { font-size: 14px; }
code { font: 12.5px ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
header p { color: #475569; }
header .kicker {
    font-size: 12px; font-weight: bold; letter-spacing: .06em; text-transform: uppercase;
    color: #1d4ed8;
}
.headline {
    display: grid; grid-template-columns: repeat(auto-fit, minmax(250px, 1fr)); gap: 14px;
    margin: 20px 0 14px;
}
.card, .panel, .sets { background: #fff; border: 1px solid #e2e8f0; border-radius: 8px; }
.card { padding: 14px 18px; }
.label { color: #475569; }
.value {
    font-size: 38px; font-weight: bold; letter-spacing: -.02em; line-height: 1.2;
    font-variant-numeric: tabular-nums;
}
.beside { font-size: 12.5px; color: #64748b; }
.date { white-space: nowrap; }
.better, .worse { padding: 1px 6px; border-radius: 4px; }
.better { color: #166534; background: #dcfce7; }
.worse { color: #9a3412; background: #ffedd5; }
.sets {
    display: flex; flex-wrap: wrap; gap: 4px 40px; padding: 10px 18px; margin-bottom: 14px;
    color: #334155;
}
.figures, .tables {
    display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr));
    gap: 14px; align-items: start;
}
.tables { margin-top: 14px; }
.panel { padding: 14px 18px; min-width: 0; }
figcaption {
    display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 2px 0 6px; font-size: 12.5px;
    color: #475569;
}
.key::before {
    content: ""; display: inline-block; width: 14px; height: 10px; margin-right: 6px;
    border-radius: 2px;
}
.key-line::before { height: 0; border-top: 2px solid #1d4ed8; vertical-align: 4px; border-radius: 0; }
.key-reference::before { height: 0; border-top: 2px dashed #64748b; vertical-align: 4px; border-radius: 0; }
.key-bar::before { background: #3b6fd8; }
.key-pale::before { background: #dbe3ef; }
.key-genuine::before { background: #94a3b8; }
.key-fraud::before { background: #d9480f; }
table { width: 100%; border-collapse: collapse; margin-top: 8px; font-size: 13px; }
th, td {
    padding: 5px 8px; text-align: right; border-bottom: 1px solid #eef2f6;
    font-variant-numeric: tabular-nums;
}
th { color: #475569; font-weight: normal; }
th:first-child, td:first-child, .facts td { text-align: left; }
.facts td:first-child { width: 38%; color: #475569; }
.own td { font-weight: bold; background: #eff6ff; }
.group td { padding-top: 12px; color: #475569; font-size: 12.5px; }
.note { margin-top: 8px; font-size: 12px; color: #64748b; }
@media print { body { background: #fff; } .panel, .card { break-inside: avoid; } }
"""
