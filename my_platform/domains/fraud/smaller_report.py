"""The page "Smaller and faster" of one test week: a single HTML file that loads nothing."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from my_platform.learning import charts, drawing
from my_platform.learning.bootstrap import Interval
from my_platform.learning.report_style import STYLE

_STYLE = """
td .how { color: #64748b; font-size: 12px; display: block; }
tr.variant td:first-child { padding-left: 26px; }
.wide { margin-top: 14px; }
.wide .chart { max-width: 760px; }
"""
_UNKNOWN = "–"


def smaller_report(week: str, metrics: Mapping[str, Any]) -> str:
    """The page without times, which `with_timings` fills in: the same figures give the same bytes.

    Args:
        metrics: as `fraud_smaller_evaluation` keeps them.
    """
    models = metrics["models"]
    losses = {name: Interval(**found["gain"]) for name, found in models.items() if "gain" in found}
    title = f"Smaller and faster, test week {week}"
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{STYLE}{charts.STYLE}{_STYLE}</style></head><body><main>",
            '<header><p class="kicker">Payment-card fraud · smaller and faster</p>',
            f"<h1>Test week T0 = {escape(week)}</h1>",
            f"<p>Variants of the week's models on {metrics['rows']:,} test rows with {metrics['frauds']:,} frauds. "
            "Indented rows are made of the model above them.</p></header>",
            '<div class="panel wide"><h2>What each loses, and what it gains</h2>',
            *_table(models),
            '<p class="note">Loss or gain in average precision against the model it is made of, with its 95 % '
            "interval over cards drawn with replacement. Times are of ONNX Runtime on one thread of the machine that "
            "made the variants: a row alone in the median, and among 2,048 (int8 scales are those of a batch, so int8 "
            "is judged row by row). “×” compares the bytes with those of the model it is made of.</p></div>",
            '<figure class="panel wide"><h2>Change in average precision</h2>',
            '<figcaption><span class="key key-line">variant, 95 % interval</span>'
            '<span class="key key-reference">the model it is made of</span></figcaption>',
            f"{_changes_chart(losses)}</figure>",
            "</main></body></html>\n",
        ]
    )


def with_timings(html: str, timings: Mapping[str, Mapping[str, float]]) -> str:
    """The page with the microseconds a row of each model, where they are known."""
    for name, found in timings.items():
        for kind, value in found.items():
            html = html.replace(_cell(name, kind), f"<td>{value:,.1f}</td>")
    return html


def _table(models: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    yield (
        "<table><thead><tr><th>Model</th><th>Average precision</th><th>change (95 %)</th><th>AUC ROC</th>"
        "<th>Card precision at 100</th><th>Bytes</th><th>µs a row alone</th><th>µs among others</th></tr></thead>"
        "<tbody>"
    )
    for name, found in models.items():
        teacher = models.get(found["teacher"])
        gain = found.get("gain")
        change, times = _UNKNOWN, ""
        if gain is not None:
            shown = round(gain["value"], 4) + 0.0
            kind = "worse" if gain["high"] < 0 else "better" if gain["low"] > 0 else "range"
            change = (
                f'<span class="{kind}">{shown:+.4f}</span> '
                f'<span class="range">({gain["low"]:+.4f} to {gain["high"]:+.4f})</span>'
            )
        if teacher is not None:
            times = f' <span class="range">({found["bytes"] / teacher["bytes"]:.2f} ×)</span>'
        cells = [
            f'{escape(name.replace("_", " "))}<span class="how">{escape(found["how"])}</span>',
            f"{found['average_precision']:.4f}",
            change,
            f"{found['auc_roc']:.4f}",
            f"{found['card_precision']:.4f}",
            f"{found['bytes']:,}{times}",
        ]
        kind = "variant" if teacher is not None else "own"
        yield f'<tr class="{kind}">' + "".join(f"<td>{cell}</td>" for cell in cells)
        yield _cell(name, "alone_us") + _cell(name, "among_others_us") + "</tr>"
    yield "</tbody></table>"


def _cell(name: str, kind: str) -> str:
    return f'<td data-time="{escape(name)} {kind}">{_UNKNOWN}</td>'


def _changes_chart(changes: Mapping[str, Interval]) -> str:
    """The variants from top to bottom, each with its interval, around no change."""
    reach = max(max(abs(found.low), abs(found.high)) for found in changes.values()) or 0.01
    side = drawing.rising_axis("", reach)
    both = {-value: f"−{text}" for value, text in side.ticks.items() if value} | dict(side.ticks)
    plane = drawing.Plane(
        drawing.Axis("Average precision against the model it is made of", -side.high, side.high, both),
        drawing.Axis(
            "",
            0.5 - len(changes),
            0.5,
            {float(-at): name.replace("_", " ") for at, name in enumerate(changes)},
        ),
        left=140,
        across=True,
    )
    marks = [drawing.path(plane, "reference", [(0, 0.5), (0, 0.5 - len(changes))])]
    for at, (name, found) in enumerate(changes.items()):
        said = f"{name}: {found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
        marks += [
            drawing.path(plane, "interval", [(found.low, -at), (found.high, -at)]),
            drawing.dot(plane, found.value, -at, said),
        ]
    return drawing.drawing(plane, "Change in average precision", marks)
