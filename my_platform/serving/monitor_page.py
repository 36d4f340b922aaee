"""The page of a week of serving: what was scored, how it drifted, how fast it was, and what labels say since."""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from my_platform.incremental.declare import Publication
from my_platform.learning import charts, drawing
from my_platform.learning.words import WORDS, Words
from my_platform.storage.objects import replace_file

_BEFORE_LABELS = (
    "Day",
    "Model",
    "Rows",
    "Flagged",
    "Degraded",
    "Score index",
    "Drifted columns",
    "p50 ms",
    "p99 ms",
    "Labelled",
)
_BY_LABELS = ("Expected", "Precision", "Recall", "Average precision")


def monitor_publisher(folder: Path, words: Words = WORDS) -> Callable[[Publication], dict[str, Any]]:
    """Writes each week's page below a folder."""

    def publish(publication: Publication) -> dict[str, Any]:
        import dagster as dg

        path = folder / f"{publication.partition}.html"
        replace_file(path, monitor_page(publication.partition, publication.table, words).encode())
        return {"report": dg.MetadataValue.path(str(path)), "report_url": dg.MetadataValue.url(path.as_uri())}

    return publish


def monitor_page(week: str, table: pl.DataFrame, words: Words = WORDS) -> str:
    """The page as HTML that loads nothing; the same figures give the same bytes."""
    labelled, rows = int(table["labelled"].sum()), int(table["rows"].sum())
    header = (*_BEFORE_LABELS, escape(words.positives.capitalize()), *_BY_LABELS)
    lines = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><title>Serving</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}{charts.STYLE}</style></head><body><main>",
        f'<header><p class="kicker">Serving</p><h1>Week of {escape(week)}</h1></header>',
        '<section class="headline">',
        *_tile(f"{rows:,}", "rows scored"),
        *_tile(f"{int(table['flagged'].sum()):,}", "flagged"),
        *_tile(f"{int(table['degraded'].sum()):,}", "degraded"),
        *_tile(f"{labelled / rows:.0%}" if rows else "none", "labelled by now"),
        "</section>",
        '<section class="charts">',
        *_panel("Rows scored, by day and model", _bars(table, "rows", "Rows", "{:,.0f} rows")),
        *_panel(
            "Latency that 99 of 100 rows stay within",
            _bars(table, "p99_us", "Milliseconds", "{:.2f} ms", 1e-3),
        ),
        *_panel("Mean score", _bars(table, "mean_score", "Probability", "{:.4f}")),
        *_panel("Drift of the scores from the days before", _bars(table, "score_index", "Index", "{:.3f}")),
        "</section>",
        '<section class="panel"><h2>By day and model</h2>',
        f"<table><thead><tr>{''.join(f'<th>{name}</th>' for name in header)}</tr></thead><tbody>",
        *(_row(row) for row in table.iter_rows(named=True)),
        "</tbody></table>",
        '<p class="note">Precision and recall are those of the alarms among labelled rows. Labels come late: a week is '
        "written anew when one comes. The index is what the scores differ by beyond chance.</p>",
        "</section></main></body></html>\n",
    ]
    return "\n".join(lines)


def _tile(value: str, label: str) -> Iterator[str]:
    yield f'<div class="card"><p class="value">{escape(value)}</p><p>{escape(label)}</p></div>'


def _panel(title: str, chart: str) -> Iterator[str]:
    yield f'<section class="panel"><h2>{escape(title)}</h2>{chart}</section>'


def _bars(table: pl.DataFrame, column: str, axis: str, said: str, unit: float = 1.0) -> str:
    """A bar for each day and model; nothing where a day has no such figure."""
    values = [(row, row[column] * unit) for row in table.iter_rows(named=True) if row[column] is not None]
    if not values:
        return '<p class="note">No days before to compare with.</p>'
    names = {float(at): f"{row['day']:%m-%d}" for at, (row, _) in enumerate(values)}
    plane = drawing.Plane(
        drawing.Axis("", -0.5, len(values) - 0.5, names),
        drawing.rising_axis(axis, max(max(value for _, value in values), 1e-3)),
    )
    marks = [
        drawing.bar(
            plane,
            "bar",
            at - 0.36,
            at + 0.36,
            value,
            f"{row['day']} {row['model']} {row['week']}: {said.format(value)}",
        )
        for at, (row, value) in enumerate(values)
    ]
    return drawing.drawing(plane, axis, marks)


def _row(row: dict[str, Any]) -> str:
    cells: Sequence[str] = (
        str(row["day"]),
        f"{row['model']} {row['week']} ({row['bundle'][:8]})",
        f"{row['rows']:,}",
        f"{row['flagged']:,}",
        f"{row['degraded']:,}",
        _figure(row["score_index"]),
        f"{row['drifted_columns']}" + (f" ({row['worst_column']})" if row["drifted_columns"] else ""),
        f"{row['p50_us'] / 1e3:.2f}",
        f"{row['p99_us'] / 1e3:.2f}",
        f"{row['labelled']:,}",
        f"{row['positives']:,}",
        f"{row['expected']:.1f}",
        _share(row["found"], row["alarms"]),
        _share(row["found"], row["positives"]),
        _figure(row["average_precision"]),
    )
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "–"


_STYLE = """
* { box-sizing: border-box; }
body { margin: 0; background: #f5f7fa; color: #0f172a; font: 14px/1.45 Helvetica, Arial, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 28px 24px 40px; }
p, h1, h2 { margin: 0; }
h1 { font-size: 27px; letter-spacing: -.01em; margin: 2px 0 14px; }
h2 { font-size: 15px; margin-bottom: 8px; }
.kicker { font-size: 12px; font-weight: bold; letter-spacing: .06em; text-transform: uppercase; color: #1d4ed8; }
.headline { display: grid; grid-template-columns: repeat(4, 1fr); gap: 14px; margin-bottom: 14px; }
.charts { display: grid; grid-template-columns: repeat(2, 1fr); gap: 0 14px; }
.card, .panel { background: #fff; border: 1px solid #e2e8f0; border-radius: 8px; padding: 14px 18px; }
.card { color: #475569; }
.value { font-size: 30px; font-weight: bold; line-height: 1.15; color: #0f172a; font-variant-numeric: tabular-nums; }
.panel { margin-bottom: 14px; overflow-x: auto; }
.note { font-size: 12.5px; color: #64748b; margin-top: 6px; }
table { width: 100%; border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px 5px 0; text-align: left; vertical-align: top; border-bottom: 1px solid #eef2f6; }
td:not(:nth-child(7)) { white-space: nowrap; }
th { color: #475569; font-weight: normal; }
@media print { body { background: #fff; } .panel { break-inside: avoid; } }
"""
