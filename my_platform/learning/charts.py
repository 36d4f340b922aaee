"""Charts of an evaluation as inline SVG: small, the same bytes for the same figures, alive in any browser.

Written by hand instead of by a plotting library: what those make of a chart depends on the fonts of the
machine, takes about a second a report, and brings either a megabyte of script or no values to hover over.
A page that holds the charts includes `STYLE`, and gives each its title and its legend.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape

import polars as pl

STYLE = """
.chart { display: block; width: 100%; height: auto; }
.chart text { font: 11px Helvetica, Arial, sans-serif; }
.chart text { fill: #475569; }
.chart text.axis-title { font-size: 11.5px; fill: #334155; }
.chart .grid { stroke: #e8ecf1; }
.chart .baseline { stroke: #94a3b8; }
.chart .reference { stroke: #64748b; stroke-dasharray: 4 4; fill: none; }
.chart .line { stroke: #1d4ed8; stroke-width: 2; stroke-linejoin: round; fill: none; }
.chart .area { fill: #dbeafe; opacity: .6; }
.chart .bar, .chart .dot { fill: #3b6fd8; }
.chart .pale { fill: #dbe3ef; }
.chart .interval { stroke: #1d4ed8; stroke-width: 1.5; opacity: .45; }
.chart .genuine { fill: #94a3b8; opacity: .75; }
.chart .fraud { fill: #d9480f; opacity: .7; }
.chart text.on-bar { fill: #fff; font-weight: bold; }
.chart text.name { font-size: 9.5px; }
.chart :is(.bar, .dot, .genuine, .fraud):hover { opacity: 1; fill: #1e3a8a; }
"""

_WIDTH, _HEIGHT = 520, 300
_TOP, _RIGHT, _BOTTOM, _LEFT = 12, 22, 46, 58
_WIDTH_OF_LETTER, _LONGEST_NAME = 6.4, 40
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_SHARES = (1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
_FIFTHS = {0.0: "0", 0.2: "0.2", 0.4: "0.4", 0.6: "0.6", 0.8: "0.8", 1.0: "1"}


@dataclass(frozen=True)
class _Axis:
    """Values from `low` to `high`, named at the ticks; `title` is empty where the ticks say enough."""

    title: str
    low: float
    high: float
    ticks: Mapping[float, str]

    def share(self, value: float) -> float:
        """Where a value stands between `low` (0) and `high` (1)."""
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class _Plane:
    """The area between two axes, and where it stands in the drawing."""

    x: _Axis
    y: _Axis
    left: int = _LEFT
    across: bool = False

    def place(self, x: float, y: float) -> tuple[float, float]:
        """A point in drawing units, to the right and down."""
        width, height = _WIDTH - self.left - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return self.left + width * self.x.share(x), _TOP + height * (1 - self.y.share(y))


def roc_chart(points: pl.DataFrame) -> str:
    """The curve of `metrics.roc_points` over the diagonal of chance."""
    plane = _Plane(
        _Axis("False positive rate (share of genuine rows)", 0, 1, _FIFTHS),
        _Axis("True positive rate (share of frauds)", 0, 1, _FIFTHS),
    )
    return _drawing(
        plane, "ROC curve", [*_curve(plane, points.rows()), _path(plane, "reference", [(0, 0), (1, 1)])]
    )


def precision_recall_chart(points: pl.DataFrame, fraud_share: float) -> str:
    """The curve of `metrics.precision_recall_points` over the share of frauds, the precision of chance."""
    plane = _Plane(
        _Axis("Recall (share of frauds found)", 0, 1, _FIFTHS),
        _Axis("Precision (frauds among alarms)", 0, 1, _FIFTHS),
    )
    chance = _path(plane, "reference", [(0, fraud_share), (1, fraud_share)])
    return _drawing(plane, "Precision-recall curve", [*_curve(plane, points.rows()), chance])


def histogram_chart(bins: pl.DataFrame) -> str:
    """The bins of `metrics.score_histogram`: the share of each class by score."""
    totals = {name: bins[name].sum() for name in ("genuine", "fraud")}
    shares = [count / totals[name] for name in totals for count in bins[name]]
    low, high = bins["low"][0], bins["high"][-1]
    names = {math.log(share / (1 - share)): _percent(share) for share in _SHARES}
    ticks = {at: name for at, name in names.items() if low <= at <= high}
    plane = _Plane(
        _Axis("Score (scale of log-odds)", low, high, ticks), _rising_axis("Share of the class", max(shares))
    )
    marks = [
        _bar(plane, name, row["low"], row["high"], row[name] / totals[name], f"{row[name]:,} {name} rows")
        for name in totals
        for row in bins.iter_rows(named=True)
        if row[name]
    ]
    return _drawing(plane, "Scores by class", marks)


def calibration_chart(bins: pl.DataFrame) -> str:
    """The bins of `metrics.calibration_bins` with their intervals, over the diagonal of a true score."""
    smallest = min(
        (value for name in ("mean_score", "rate_low") for value in bins[name] if value > 0), default=1
    )
    floor = min(-1, max(-5, math.floor(math.log10(smallest))))
    ticks = {float(power): _percent(10.0**power) for power in range(floor, 1)}
    plane = _Plane(
        _Axis("Mean score of the bin", floor, 0, ticks), _Axis("Share of frauds in the bin", floor, 0, ticks)
    )
    marks = [_path(plane, "reference", [(floor, floor), (0, 0)])]
    for row in bins.iter_rows(named=True):
        x, low, rate, high = (
            math.log10(max(row[name], 10.0**floor))
            for name in ("mean_score", "rate_low", "fraud_rate", "rate_high")
        )
        text = f"{row['frauds']:,} frauds in {row['rows']:,} rows ({row['fraud_rate']:.2%})"
        text += f", mean score {row['mean_score']:.2%}"
        marks += [_path(plane, "interval", [(x, low), (x, high)]), _dot(plane, x, rate, text)]
    return _drawing(plane, "Calibration", marks)


def daily_precision_chart(by_day: pl.DataFrame, k: int, mean: float) -> str:
    """Card precision at k by day, in front of the share that compromised cards could have filled."""
    names = {
        float(at): f"{_WEEKDAYS[day.weekday()]} {day.month:02}-{day.day:02}"
        for at, day in enumerate(by_day["day"])
    }
    attainable = [min(1.0, count / k) for count in by_day["compromised"]]
    plane = _Plane(
        _Axis("", -0.5, len(names) - 0.5, names),
        _rising_axis(f"Card precision at {k}", max(attainable)),
    )
    marks = []
    for at, row in enumerate(by_day.iter_rows(named=True)):
        text = f"{row['found']:,} found of {row['compromised']:,} compromised, {row['cards']:,} cards in all"
        marks += [
            _bar(plane, "pale", at - 0.36, at + 0.36, attainable[at], text),
            _bar(plane, "bar", at - 0.36, at + 0.36, row["precision"], text),
        ]
    marks.append(_path(plane, "reference", [(-0.5, mean), (len(names) - 0.5, mean)]))
    for at, precision in enumerate(by_day["precision"]):
        x, y = plane.place(at, 0)
        if precision:
            marks.append(_text("on-bar", x, y - 8, f"{precision:.2f}"))
    return _drawing(plane, f"Card precision at {k} by day", marks)


def importance_chart(importance: pl.DataFrame, features: int = 14) -> str:
    """The features with the most of the gain, of a frame with the columns feature and gain, highest first."""
    total = importance["gain"].sum() or 1.0
    shown = [
        (name, gain / total) for name, gain in importance.head(features).select("feature", "gain").rows()
    ]
    names = {float(-at): name[:_LONGEST_NAME] for at, (name, _) in enumerate(shown)}
    left_of_names = 20 + math.ceil(_WIDTH_OF_LETTER * max(len(name) for name in names.values()))
    plane = _Plane(
        _rising_axis("Share of the gain", max(share for _, share in shown)),
        _Axis("", 0.5 - len(shown), 0.5, names),
        left=left_of_names,
        across=True,
    )
    marks = []
    for at, (name, share) in enumerate(shown):
        left, top = plane.place(0, -at + 0.36)
        right, bottom = plane.place(share, -at - 0.36)
        marks.append(_rectangle("bar", left, top, right, bottom, f"{name}: {share:.2%} of the gain"))
    return _drawing(plane, "Feature importance by gain", marks)


def _rising_axis(title: str, highest: float) -> _Axis:
    """From 0 to just above the highest value, in five steps or so."""
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2) if highest <= 6 * step or step == 0.2)
    steps = max(1, math.ceil(highest * 1.04 / step))
    return _Axis(title, 0, steps * step, {step * at: f"{step * at:.6g}" for at in range(steps + 1)})


def _drawing(plane: _Plane, title: str, marks: Iterable[str]) -> str:
    """A whole SVG element: the axes, the marks over them."""
    inside = "\n".join([*_axes(plane), *marks])
    opening = f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
    return f"{opening}\n{inside}\n</svg>"


def _axes(plane: _Plane) -> Iterator[str]:
    """The grid, the names of the ticks, and the titles."""
    x, y = plane.x, plane.y
    left, bottom = plane.place(x.low, y.low)
    right, top = plane.place(x.high, y.high)
    for value, name in x.ticks.items():
        at = plane.place(value, y.low)[0]
        if x.title:
            yield f'<path class="grid" d="M{at:.1f} {top:.1f}V{bottom:.1f}"/>'
        yield _text("tick", at, bottom + 16, name)
    for value, name in y.ticks.items():
        at = plane.place(x.low, value)[1]
        if y.title:
            yield f'<path class="grid" d="M{left:.1f} {at:.1f}H{right:.1f}"/>'
        yield _text("tick" if y.title else "name", left - 7, at + 4, name, "end")
    yield (
        f'<path class="baseline" d="M{left:.1f} {top:.1f}V{bottom:.1f}"/>'
        if plane.across
        else f'<path class="baseline" d="M{left:.1f} {bottom:.1f}H{right:.1f}"/>'
    )
    middle, height = (left + right) / 2, (top + bottom) / 2
    yield _text("axis-title", middle, _HEIGHT - 8, x.title)
    yield (
        f'<text class="axis-title" transform="translate(15 {height:.1f}) rotate(-90)" text-anchor="middle">'
        f"{escape(y.title)}</text>"
    )


def _curve(plane: _Plane, points: list[tuple[float, float]]) -> list[str]:
    """A line with the area below it."""
    closed = [(points[0][0], plane.y.low), *points, (points[-1][0], plane.y.low)]
    return [_path(plane, "area", closed), _path(plane, "line", points)]


def _path(plane: _Plane, kind: str, points: Iterable[tuple[float, float]]) -> str:
    places = (plane.place(x, y) for x, y in points)
    return f'<path class="{kind}" d="M' + "L".join(f"{x:.1f} {y:.1f}" for x, y in places) + '"/>'


def _bar(plane: _Plane, kind: str, low: float, high: float, value: float, text: str) -> str:
    left, top = plane.place(low, value)
    right, bottom = plane.place(high, plane.y.low)
    return _rectangle(kind, left, top, right, bottom, text)


def _rectangle(kind: str, left: float, top: float, right: float, bottom: float, text: str) -> str:
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
        f'height="{bottom - top:.1f}"><title>{escape(text)}</title></rect>'
    )


def _dot(plane: _Plane, x: float, y: float, text: str) -> str:
    across, down = plane.place(x, y)
    return (
        f'<circle class="dot" cx="{across:.1f}" cy="{down:.1f}" r="4"><title>{escape(text)}</title></circle>'
    )


def _text(kind: str, x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _percent(share: float) -> str:
    return f"{share * 100:.6g}%"
