"""Drawings of a table's days as inline SVG: all on one calendar, so that a day stands in one column throughout.

Written by hand like the charts of ``learning``: small, the same bytes for the same figures, alive offline.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from itertools import groupby

WIDTH, LEFT, RIGHT = 1120, 130, 12
_ROW, _GAP = 17, 3
_PLOT = 84
_AXIS = 18
_LEAST_TICK_GAP = 70

STYLE = """
.days { display: block; width: 100%; height: auto; }
.days text { font: 11px Helvetica, Arial, sans-serif; fill: #475569; }
.days .pass { fill: #b7e0c5; }
.days .unjudged { fill: #e2e8f0; }
.days .none { fill: none; stroke: #cbd5e1; stroke-dasharray: 2 2; }
.days .warn { fill: #f59e0b; }
.days .error { fill: #dc2626; }
.days .valid { fill: #9db8e8; }
.days .bad { fill: #dc2626; }
.days .grid { stroke: #e8ecf1; fill: none; }
.days .limit { stroke: #dc2626; stroke-dasharray: 4 3; fill: none; }
.days .band { fill: #e3ebf8; }
.days .line { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.days :is(.warn, .error, .valid, .bad, .dot):hover { stroke: #0f172a; }
"""
COLOURS = ("#1d4ed8", "#0f766e", "#b45309", "#7e22ce", "#be123c", "#4d7c0f", "#0369a1", "#475569")


@dataclass(frozen=True)
class Calendar:
    """The days of a page, one column each."""

    days: Sequence[str]

    @property
    def step(self) -> float:
        return (WIDTH - LEFT - RIGHT) / max(len(self.days), 1)

    def at(self, number: int) -> float:
        """Where the column of a day begins."""
        return LEFT + number * self.step


@dataclass(frozen=True)
class Cell:
    """How a check stands on a day: ``pass``, ``unjudged``, ``warn``, ``error`` or ``none``; and in words."""

    state: str
    text: str = ""


def heat_strip(calendar: Calendar, rows: Mapping[str, Mapping[str, Cell]]) -> str:
    """A row for each check, a column for each day. Days that say the same side by side are one rectangle."""
    marks: list[str] = []
    for number, (name, cells) in enumerate(rows.items()):
        top = number * (_ROW + _GAP)
        marks.append(_label(name, top + _ROW - 5))
        numbered = [(at, day, cells.get(day)) for at, day in enumerate(calendar.days)]
        for (state, text, _), run in groupby(numbered, key=lambda found: _told_apart(found[1], found[2])):
            columns = list(run)
            if state:
                left, right = calendar.at(columns[0][0]), calendar.at(columns[-1][0] + 1)
                title = text or f"{columns[0][1]} … {columns[-1][1]}: {_IN_WORDS[state]}"
                marks.append(_rectangle(state, left, top, right, top + _ROW, f"{name}, {title}"))
    height = len(rows) * (_ROW + _GAP)
    return _drawing([*marks, *_axis(calendar, height)], height + _AXIS, "checks by day")


_IN_WORDS = {"pass": "as expected", "unjudged": "too little history to judge", "none": "no rows"}


def _told_apart(day: str, cell: Cell | None) -> tuple[str, str, str]:
    """What makes the rectangle of a day its own: a failure always is."""
    if cell is None:
        return "", "", ""
    alone = cell.state in ("warn", "error")
    return cell.state, f"{day}: {cell.text}" if alone else "", day if alone else ""


def row_bars(calendar: Calendar, rows: Mapping[str, tuple[int, int]]) -> str:
    """Valid rows of each day, with the quarantined ones on top."""
    highest = max((valid + bad for valid, bad in rows.values()), default=1) or 1
    marks = list(_scale(calendar, {0.0: "0", 0.5: f"{highest // 2:,}", 1.0: f"{highest:,}"}, "rows"))
    for number, day in enumerate(calendar.days):
        if day not in rows:
            continue
        valid, bad = rows[day]
        left, right = calendar.at(number) + 0.1 * calendar.step, calendar.at(number) + 0.9 * calendar.step
        top = _PLOT * (1 - valid / highest)
        text = f"{day}: {valid:,} valid rows, {bad:,} in quarantine"
        marks.append(_rectangle("valid", left, top, right, _PLOT, text))
        if bad:
            over = max(_PLOT * bad / highest, 1.5)
            marks.append(_rectangle("bad", left, top - over, right, top, text))
    return _drawing([*marks, *_axis(calendar, _PLOT)], _PLOT + _AXIS, "rows by day")


def drift_lines(calendar: Calendar, lines: Mapping[str, Mapping[str, float]]) -> str:
    """Drift as a share of its limit, one line a column; above 1 the check fails."""
    highest = max((value for line in lines.values() for value in line.values()), default=0.0)
    top = max(1.25, min(highest * 1.05, 4.0))
    ticks = {0.0: "0", 1 / top: "limit"} | ({1.0: f"{top:.1f} ×"} if top > 1.5 else {})
    marks = list(_scale(calendar, ticks, "drift"))
    limit = _PLOT * (1 - 1 / top)
    marks.append(f'<path class="limit" d="M{LEFT} {limit:.1f}H{WIDTH - RIGHT}"/>')
    for (name, line), colour in zip(lines.items(), _colours(), strict=False):
        marks += _line(calendar, {day: min(value, top) / top for day, value in line.items()}, colour)
        for number, day in enumerate(calendar.days):
            if line.get(day, 0.0) > 1:
                y = _PLOT * (1 - min(line[day], top) / top)
                text = f"{day}: {name} is at {line[day]:.2f} times its limit"
                marks.append(_dot(calendar, number, y, colour, text))
    return _drawing([*marks, *_axis(calendar, _PLOT)], _PLOT + _AXIS, "drift by day and column")


def share_line(
    calendar: Calendar, values: Mapping[str, float], bands: Mapping[str, tuple[float, float]]
) -> str:
    """A share by day, on the band in which it is expected."""
    highest = max([*values.values(), *(upper for _, upper in bands.values())], default=0.0) or 1.0
    marks = list(_scale(calendar, {0.0: "0 %", 1.0: f"{highest:.2%}"}, "share"))
    for number, day in enumerate(calendar.days):
        if day in bands:
            lower, upper = (_PLOT * (1 - max(edge, 0.0) / highest) for edge in bands[day])
            left, right = calendar.at(number), calendar.at(number + 1)
            marks.append(_rectangle("band", left, upper, right, lower, ""))
    marks += _line(calendar, {day: value / highest for day, value in values.items()}, COLOURS[0])
    for number, day in enumerate(calendar.days):
        if day in bands and not bands[day][0] <= values[day] <= bands[day][1]:
            text = f"{day}: {values[day]:.3%}, expected {max(bands[day][0], 0):.3%} to {bands[day][1]:.3%}"
            marks.append(_dot(calendar, number, _PLOT * (1 - values[day] / highest), "#dc2626", text))
    return _drawing([*marks, *_axis(calendar, _PLOT)], _PLOT + _AXIS, "share by day")


def legend(names: Iterable[str]) -> str:
    """The colours of lines."""
    return "".join(
        f'<span class="key"><i style="background:{colour}"></i>{escape(name)}</span>'
        for name, colour in zip(names, _colours(), strict=False)
    )


def _colours() -> Iterator[str]:
    while True:
        yield from COLOURS


def _line(calendar: Calendar, heights: Mapping[str, float], colour: str) -> Iterator[str]:
    """A line through the days, broken where one is missing; heights from 0 to 1."""
    points = [
        (calendar.at(number) + calendar.step / 2, _PLOT * (1 - heights[day])) if day in heights else None
        for number, day in enumerate(calendar.days)
    ]
    for there, run in groupby(points, key=lambda point: point is not None):
        if there:
            path = "L".join(f"{point[0]:.1f} {point[1]:.1f}" for point in run if point)
            yield f'<path class="line" stroke="{colour}" d="M{path}"/>'


def _axis(calendar: Calendar, top: float) -> Iterator[str]:
    """The first days of months; of few days, some of them."""
    last = -float(_LEAST_TICK_GAP)
    monthly = len(calendar.days) > 45
    for number, day in enumerate(calendar.days):
        x = calendar.at(number)
        if (monthly and not day.endswith("-01") and number) or x - last < _LEAST_TICK_GAP:
            continue
        last = x
        yield f'<path class="grid" d="M{x:.1f} {top}V{top + 4}"/>'
        yield f'<text x="{x:.1f}" y="{top + 15}">{date.fromisoformat(day):%-d %b %Y}</text>'


def _scale(calendar: Calendar, ticks: Mapping[float, str], title: str) -> Iterator[str]:
    yield _label(title, 12)
    for share, name in ticks.items():
        y = _PLOT * (1 - share)
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        yield f'<text x="{LEFT - 8}" y="{max(y + 4, 9):.1f}" text-anchor="end">{escape(name)}</text>'


def _label(name: str, y: float) -> str:
    return f'<text x="0" y="{y}">{escape(name)}</text>'


def _rectangle(kind: str, left: float, top: float, right: float, bottom: float, text: str) -> str:
    title = f"<title>{escape(text)}</title>" if text else ""
    width, height = max(right - left - (0.4 if kind != "band" else 0), 0.5), max(bottom - top, 0)
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}">'
        f"{title}</rect>"
    )


def _dot(calendar: Calendar, number: int, y: float, colour: str, text: str) -> str:
    x = calendar.at(number) + calendar.step / 2
    return (
        f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{escape(text)}</title>'
        "</circle>"
    )


def _drawing(marks: Sequence[str], height: float, title: str) -> str:
    opening = f'<svg class="days" viewBox="0 -2 {WIDTH} {height + 4:g}" role="img" aria-label="{title}">'
    return "\n".join([opening, *marks, "</svg>"])
