"""The evaluation report of one week of forecasts: a single HTML file that loads nothing and holds no clock."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import polars as pl

from my_platform.learning import charts, drawing
from my_platform.learning.bootstrap import Interval
from my_platform.learning.gate_section import MARK
from my_platform.learning.report_style import STYLE

_EVERY_HOURS = 3


def forecast_report(
    figures: Mapping[str, Any],
    found: Mapping[str, Interval],
    about: Mapping[str, Any],
    days: str,
    contributions: pl.DataFrame,
    importance: pl.DataFrame,
) -> str:
    """The report of a model on a test week, as HTML of some tens of kilobytes.

    Args:
        figures: as the evaluation keeps them.
        found: the same with their intervals.
        about: the model's own `about.json`.
        days: the tested days in words.
        contributions, importance: what the model tells of its features.
    """
    title = f"{figures['model']}, test week {figures['week']}"
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{STYLE}{charts.STYLE}</style></head><body><main>",
            *_heading(figures, days),
            *_headline(figures, found),
            '<section class="sets">',
            f"<p><b>Training</b> {about['train']['from']} … {about['train']['to']} · {about['train']['rows']:,} rows</p>",
            f"<p><b>Test</b> {days} · {figures['test']['rows']:,} rows</p>",
            '</section><section class="figures">',
            _panel(
                "Mean absolute error by hour",
                {"bar": "this model", "reference": "naive forecast"},
                hours_chart(figures["by_hour"], figures["unit"]),
            ),
            _panel(
                "What moves the forecast",
                {"bar": "mean of the absolute SHAP values of the test rows"},
                charts.contributions_chart(contributions, f"Mean contribution, {figures['unit']}"),
            ),
            _panel(
                "Feature importance",
                {"bar": "share of the gain of all splits"},
                charts.importance_chart(importance),
            ),
            *_slices(figures["slices"]),
            "</section>",
            MARK,
            '<section class="tables">',
            *_provenance(figures, about),
            "</section></main></body></html>\n",
        ]
    )


def hours_chart(by_hour: Sequence[Mapping[str, Any]], unit: str) -> str:
    """Mean absolute error hour by hour, the naive forecast's as a line."""
    names = {
        float(part["hour"]): f"{part['hour']}:00" for part in by_hour if part["hour"] % _EVERY_HOURS == 0
    }
    naive = [(part["hour"], part["naive"]) for part in by_hour if part["naive"] is not None]
    highest = max([part["mae"] for part in by_hour] + [value for _, value in naive])
    plane = drawing.Plane(
        drawing.Axis("Hour of the day, UTC", -0.5, 23.5, names),
        drawing.rising_axis(f"Mean absolute error, {unit}", highest),
    )
    marks = [
        drawing.bar(
            plane,
            "bar",
            part["hour"] - 0.36,
            part["hour"] + 0.36,
            part["mae"],
            f"{part['hour']}:00: {part['mae']:,.1f}, naive {_said(part['naive'])}, {part['rows']:,} rows",
        )
        for part in by_hour
    ]
    if naive:
        marks.append(drawing.path(plane, "reference", naive))
    return drawing.drawing(plane, "Mean absolute error by hour", marks)


def _heading(figures: Mapping[str, Any], days: str) -> list[str]:
    week = figures["week"]
    flattered = (
        '<p class="warning">The parameters were chosen by this week, among others: these figures flatter the model, '
        "and the gate does not look at them.</p>"
    )
    return [
        "<header>",
        '<p class="kicker">Forecast · evaluation report</p>',
        f"<h1>Test week T0 = {week}</h1>",
        f"<p>{escape(figures['model'])}, fitted on values known before {week}, tested on {days}</p>",
        *([flattered] if figures["chosen_on"] else []),
        "</header>",
    ]


def _headline(figures: Mapping[str, Any], found: Mapping[str, Interval]) -> list[str]:
    """The figures in large with their intervals, beside those of the naive forecast."""
    naive, unit = figures["models"]["naive"], escape(figures["unit"])
    kind = "better" if "skill" in found and found["skill"].value > 0 else "worse"
    beside = {
        "mae": ("Mean absolute error", "{:,.1f}", f"naive {_said(naive['mae'])}, {unit}"),
        "rmse": ("Root mean squared error", "{:,.1f}", f"naive {_said(naive['rmse'])}, {unit}"),
        "wape": ("Absolute errors ÷ values", "{:.1%}", f"naive {_said(naive['wape'], '{:.1%}')}"),
        "skill": ("Saved of the naive errors", "{:.1%}", f'<b class="{kind}">{kind}</b> than the naive one'),
        "calibration": ("Forecasts ÷ values", "{:.3f}", "1 without bias"),
    }
    lines = ['<section class="headline">']
    for name, (label, form, said) in beside.items():
        if name not in found:
            lines.append(
                f'<div class="card"><p class="label">{label}</p><p class="value">–</p>'
                '<p class="beside">the naive forecast has no value</p></div>'
            )
            continue
        interval = found[name]
        low, high = form.format(interval.low), form.format(interval.high)
        lines += [
            f'<div class="card"><p class="label">{label}</p><p class="value">{form.format(interval.value)} '
            f'<span class="range">{low} to {high}</span></p>',
            f'<p class="beside">{said}</p></div>',
        ]
    return [*lines, "</section>"]


def _slices(slices: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        '<div class="panel"><h2>By slice</h2><table><thead><tr><th>Slice</th><th>Rows</th>',
        "<th>Mean absolute error</th><th>Naive</th></tr></thead><tbody>",
    ]
    for part in slices:
        name = f"{part['slice'].replace('_', ' ').lower()}: {part['value']}"
        lines.append(
            f"<tr><td>{escape(name)}</td><td>{part['rows']:,}</td><td>{part['mae']:,.1f}</td>"
            f"<td>{_said(part['naive'])}</td></tr>"
        )
    return [*lines, "</tbody></table></div>"] if slices else []


def _provenance(figures: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    """Parameters, seeds, window and digest."""
    facts = {
        "Model version": figures["model_version"][:12],
        "Training set": about["training_set"],
        "Training window": f"{about['window_days']} days",
        **dict(sorted(about["parameters"].items())),
        **{f"{name} (seed)": value for name, value in sorted(about["seeds"].items())},
    }
    lines = ['<div class="panel"><h2>How the model was made</h2><table class="facts"><tbody>']
    for name, value in facts.items():
        lines.append(f"<tr><td>{escape(name)}</td><td><code>{escape(str(value))}</code></td></tr>")
    return [*lines, "</tbody></table></div>"]


def _said(value: float | None, form: str = "{:,.1f}") -> str:
    return "–" if value is None else form.format(value)


def _panel(title: str, legend: Mapping[str, str], chart: str) -> str:
    keys = "".join(f'<span class="key key-{kind}">{escape(text)}</span>' for kind, text in legend.items())
    return f'<figure class="panel"><h2>{title}</h2><figcaption>{keys}</figcaption>\n{chart}</figure>'
