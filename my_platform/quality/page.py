"""The data-quality page: one look shows which day of which table went wrong. A single file that loads nothing."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from my_platform.incremental.checks import ERROR, WARN
from my_platform.incremental.declare import Publication
from my_platform.quality import strips
from my_platform.quality.strips import Calendar, Cell
from my_platform.quality.tables import CONTRACT, FRESHNESS, SCHEMA

# A longer history is cut: a column of a day would be narrower than the eye can tell.
MOST_DAYS = 200
_MOST_LISTED = 100
_FROM_LANDING = (FRESHNESS, SCHEMA, CONTRACT)
_ORDER = ("none", "unjudged", "pass", WARN, ERROR)

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class TableQuality:
    """What the page says of one table.

    Attributes:
        name: of the checked asset.
        checks: their names, in order.
        results: rows of checks by partition; the key of a table without partitions is empty.
        turned_away: rows in quarantine by partition and rule.
    """

    name: str
    checks: Sequence[str]
    results: Mapping[str, Rows]
    turned_away: Mapping[str, Mapping[str, int]]

    @property
    def days(self) -> list[str]:
        return sorted(day for day in self.results if day)

    def cell(self, day: str, check: str) -> Cell:
        """How a check stands on a day."""
        rows = [row for row in self.results.get(day, ()) if row["check"] == check]
        if not rows:
            # Of what came before the results there is a row only where it failed.
            told = any(row["check"] not in _FROM_LANDING for row in self.results.get(day, ()))
            return Cell("pass" if check in _FROM_LANDING and told else "none")
        failed = [row for row in rows if not row["passed"]]
        if failed:
            worst = ERROR if any(row["severity"] == ERROR for row in failed) else WARN
            return Cell(worst, "; ".join(dict.fromkeys(row["message"] for row in failed)))
        return Cell("pass" if any(row["upper"] is not None for row in rows) else "unjudged")

    def worst(self, day: str) -> Cell:
        """The worst of a day's checks."""
        cells = {check: self.cell(day, check) for check in self.checks}
        state = max((cell.state for cell in cells.values()), key=_ORDER.index, default="none")
        return Cell(state, "; ".join(f"{name}: {c.text}" for name, c in cells.items() if c.state == state))

    def numbers(self, day: str, check: str, measure: str) -> dict[str, Mapping[str, Any]]:
        """The rows of a measure by column."""
        return {
            row["column"]: row
            for row in self.results.get(day, ())
            if row["check"] == check and row["measure"] == measure
        }


def page_path(reports: Path) -> Path:
    """Where the page lies below the folder of reports."""
    return reports / "quality" / "index.html"


def page_linker(reports: Path) -> Callable[[Publication], Mapping[str, Any]]:
    """Names in the metadata of each partition's checks what failed, and where the page lies."""
    path = page_path(reports)

    def publish(publication: Publication) -> Mapping[str, Any]:
        import dagster as dg

        failed = publication.table.filter(~pl.col("passed")).get_column("check").unique(maintain_order=True)
        return {
            "failed": failed.to_list(),
            "report": dg.MetadataValue.path(str(path)),
            "report_url": dg.MetadataValue.url(path.as_uri()),
        }

    return publish


def quality_page(tables: Sequence[TableQuality]) -> str:
    """The page as HTML. The same results give the same bytes.

    Days that have no results between a table's first and last are shown as such.
    """
    daily = [table for table in tables if table.days]
    calendar = _calendar(daily)
    lines = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><title>Data quality</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}{strips.STYLE}</style></head><body><main>",
        *_heading(calendar, tables),
        *_overview(calendar, daily),
        *_failures(calendar, tables),
    ]
    for table in daily:
        lines += _table(calendar, table)
    lines += _without_days([table for table in tables if not table.days])
    return "\n".join([*lines, "</main></body></html>\n"])


def _calendar(tables: Sequence[TableQuality]) -> Calendar:
    days = [day for table in tables for day in table.days]
    if not days:
        return Calendar([])
    last = date.fromisoformat(max(days))
    first = max(date.fromisoformat(min(days)), last - timedelta(days=MOST_DAYS - 1))
    return Calendar([(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)])


def _heading(calendar: Calendar, tables: Sequence[TableQuality]) -> Iterator[str]:
    states = [table.worst(day).state for table in tables for day in (calendar.days if table.days else [""])]
    span = f"{calendar.days[0]} … {calendar.days[-1]}" if calendar.days else "no days yet"
    yield '<header><p class="kicker">Data quality</p>'
    yield f"<h1>{escape(span)}</h1></header>"
    yield '<section class="headline">'
    for kind, label in (
        (ERROR, "partitions with an error"),
        (WARN, "with a warning"),
        ("pass", "as expected"),
    ):
        yield f'<div class="card {kind}"><p class="value">{states.count(kind):,}</p><p>{label}</p></div>'
    yield "</section>"


def _overview(calendar: Calendar, tables: Sequence[TableQuality]) -> Iterator[str]:
    if not tables:
        return
    yield '<section class="panel"><h2>All tables, the worst check of each day</h2>'
    yield _KEYS
    rows = {
        table.name.rpartition("/")[2]: {day: table.worst(day) for day in _between(calendar, table)}
        for table in tables
    }
    yield strips.heat_strip(calendar, rows)
    yield "</section>"


def _failures(calendar: Calendar, tables: Sequence[TableQuality]) -> Iterator[str]:
    """What failed, the latest day first."""
    found = [
        (day, table.name, check, cell)
        for table in tables
        for day in (calendar.days if table.days else [""])
        for check in table.checks
        if (cell := table.cell(day, check)).state in (WARN, ERROR)
    ]
    found.sort(key=lambda entry: (entry[0], entry[1]), reverse=True)
    yield '<section class="panel"><h2>What failed</h2>'
    if not found:
        yield '<p class="note">Nothing: every check that could be judged is as expected.</p></section>'
        return
    yield "<table><thead><tr><th>Day</th><th>Table</th><th>Check</th><th>What was found</th></tr></thead><tbody>"
    for day, name, check, cell in found[:_MOST_LISTED]:
        yield (
            f'<tr><td class="day">{day}</td><td><a href="#{escape(name)}">{escape(name)}</a></td>'
            f'<td><span class="tag {cell.state}">{escape(check)}</span></td><td>{escape(cell.text)}</td></tr>'
        )
    more = f'<p class="note">and {len(found) - _MOST_LISTED:,} more</p>' if len(found) > _MOST_LISTED else ""
    yield f"</tbody></table>{more}</section>"


def _table(calendar: Calendar, table: TableQuality) -> Iterator[str]:
    days = _between(calendar, table)
    yield f'<section class="panel" id="{escape(table.name)}"><h2>{escape(table.name)}</h2>'
    yield strips.heat_strip(
        calendar, {check: {day: table.cell(day, check) for day in days} for check in table.checks}
    )
    yield "<h3>Rows of the day, those in quarantine in red</h3>"
    yield strips.row_bars(calendar, {day: counts for day in days if (counts := _counts(table, day))})
    if table.turned_away:
        total = Counter[str]()
        for by_rule in table.turned_away.values():
            total.update(by_rule)
        rules = ", ".join(f"{escape(rule)} {rows:,}" for rule, rows in total.most_common())
        yield f'<p class="note">In quarantine, by rule: {rules}</p>'
    lines = _drift(table, days)
    if lines:
        yield f"<h3>Drift of each column against its limit</h3><p>{strips.legend(lines)}</p>"
        yield strips.drift_lines(calendar, lines)
    values, bands = _labels(table, days)
    if values:
        yield "<h3>Share of true labels, and where it is expected</h3>"
        yield strips.share_line(calendar, values, bands)
    yield "</section>"


def _without_days(tables: Sequence[TableQuality]) -> Iterator[str]:
    shown = [table for table in tables if table.results]
    if not shown:
        return
    yield '<section class="panel"><h2>Tables without days</h2><table><tbody>'
    for table in shown:
        tags = " ".join(
            f'<span class="tag {table.cell("", check).state}">{escape(check)}</span>'
            for check in table.checks
        )
        bad = sum(table.turned_away.get("", {}).values())
        yield f"<tr><td>{escape(table.name)}</td><td>{bad:,} rows in quarantine</td><td>{tags}</td></tr>"
    yield "</tbody></table></section>"


def _between(calendar: Calendar, table: TableQuality) -> list[str]:
    """The days of the page from a table's first one to its last."""
    return [day for day in calendar.days if table.days[0] <= day <= table.days[-1]]


def _counts(table: TableQuality, day: str) -> tuple[int, int] | None:
    """Valid and quarantined rows of a day."""
    valid = table.numbers(day, "volume", "rows").get("")
    if valid is None:
        return None
    return int(valid["value"]), sum(table.turned_away.get(day, {}).values())


def _drift(table: TableQuality, days: Sequence[str]) -> dict[str, dict[str, float]]:
    """By column: the worse of a day's drift statistics, as a share of its limit."""
    lines: dict[str, dict[str, float]] = {}
    for day in days:
        for row in table.results.get(day, ()):
            if row["check"] == "drift" and row["upper"]:
                line = lines.setdefault(row["column"], {})
                line[day] = max(line.get(day, 0.0), row["value"] / row["upper"])
    return lines


def _labels(
    table: TableQuality, days: Sequence[str]
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    found = {day: row for day in days for row in table.numbers(day, "label_drift", "share of true").values()}
    values = {day: row["value"] for day, row in found.items()}
    return values, {day: (r["lower"], r["upper"]) for day, r in found.items() if r["upper"] is not None}


_KEYS = (
    '<p><span class="key"><i class="k-pass"></i>as expected</span><span class="key"><i class="k-warn"></i>warning</span>'
    '<span class="key"><i class="k-error"></i>error</span><span class="key"><i class="k-unjudged"></i>too little '
    'history to judge</span><span class="key"><i class="k-none"></i>no rows</span></p>'
)
_STYLE = """
* { box-sizing: border-box; }
body { margin: 0; background: #f5f7fa; color: #0f172a; font: 14px/1.45 Helvetica, Arial, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 28px 24px 40px; }
p, h1, h2, h3 { margin: 0; }
h1 { font-size: 27px; letter-spacing: -.01em; margin: 2px 0 14px; }
h2 { font-size: 15px; margin-bottom: 8px; }
h3 { font-size: 12.5px; font-weight: normal; color: #475569; margin: 14px 0 4px; }
.kicker { font-size: 12px; font-weight: bold; letter-spacing: .06em; text-transform: uppercase; color: #1d4ed8; }
.headline { display: grid; grid-template-columns: repeat(3, 1fr); gap: 14px; margin-bottom: 14px; }
.card, .panel { background: #fff; border: 1px solid #e2e8f0; border-radius: 8px; padding: 14px 18px; }
.card { border-left-width: 5px; color: #475569; }
.card.error { border-left-color: #dc2626; }
.card.warn { border-left-color: #f59e0b; }
.card.pass { border-left-color: #86c99b; }
.value { font-size: 30px; font-weight: bold; line-height: 1.15; color: #0f172a; font-variant-numeric: tabular-nums; }
.panel { margin-bottom: 14px; overflow-x: auto; }
.note { font-size: 12.5px; color: #64748b; margin-top: 6px; }
.key { font-size: 12.5px; color: #475569; margin-right: 16px; white-space: nowrap; }
.key i { display: inline-block; width: 14px; height: 10px; border-radius: 2px; margin-right: 6px; }
.k-pass { background: #b7e0c5; }
.k-warn { background: #f59e0b; }
.k-error { background: #dc2626; }
.k-unjudged { background: #e2e8f0; }
.k-none { border: 1px dashed #cbd5e1; }
table { width: 100%; border-collapse: collapse; font-size: 13px; }
th, td { padding: 5px 10px 5px 0; text-align: left; vertical-align: top; border-bottom: 1px solid #eef2f6; }
th { color: #475569; font-weight: normal; }
.day { white-space: nowrap; font-variant-numeric: tabular-nums; }
.tag { padding: 1px 7px; border-radius: 4px; background: #dcfce7; color: #166534; white-space: nowrap; }
.tag.warn { background: #fef3c7; color: #92400e; }
.tag.error { background: #fee2e2; color: #991b1b; }
.tag.unjudged, .tag.none { background: #f1f5f9; color: #475569; }
a { color: #1d4ed8; text-decoration: none; }
@media print { body { background: #fff; } .panel { break-inside: avoid; } }
"""
