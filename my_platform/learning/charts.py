"""Charts of an evaluation as inline SVG: small, the same bytes for the same figures, alive in any browser.

Written by hand instead of by a plotting library: what those make of a chart depends on the fonts of the
machine, takes about a second a report, and brings either a megabyte of script or no values to hover over.
A page that holds the charts includes `STYLE`, gives each its title and its legend, and says in which `Words`.
"""

import math
from collections.abc import Sequence

import polars as pl

from my_platform.learning import drawing
from my_platform.learning.decisions import CostCurve
from my_platform.learning.evaluation import WeekFigures
from my_platform.learning.metrics import PrecisionAtK
from my_platform.learning.words import WORDS, Words

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
.chart .negative { fill: #94a3b8; opacity: .75; }
.chart .positive { fill: #d9480f; opacity: .7; }
.chart text.on-bar { fill: #fff; font-weight: bold; }
.chart text.name { font-size: 9.5px; }
.chart :is(.bar, .dot, .negative, .positive):hover { opacity: 1; fill: #1e3a8a; }
"""

_WIDTH_OF_LETTER, _LONGEST_NAME, _MOST_BARS = 6.4, 44, 14
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_SHARES = (1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
_FIFTHS = {0.0: "0", 0.2: "0.2", 0.4: "0.4", 0.6: "0.6", 0.8: "0.8", 1.0: "1"}


def roc_chart(points: pl.DataFrame, words: Words = WORDS) -> str:
    """The curve of `metrics.roc_points` over the diagonal of chance."""
    plane = drawing.Plane(
        drawing.Axis(f"False positive rate (share of {words.negative} rows)", 0, 1, _FIFTHS),
        drawing.Axis(f"True positive rate (share of {words.positives})", 0, 1, _FIFTHS),
    )
    return drawing.drawing(
        plane,
        "ROC curve",
        [*drawing.curve(plane, points.rows()), drawing.path(plane, "reference", [(0, 0), (1, 1)])],
    )


def precision_recall_chart(points: pl.DataFrame, share: float, words: Words = WORDS) -> str:
    """The curve of `metrics.precision_recall_points` over the share of rows labelled 1, the precision of chance."""
    plane = drawing.Plane(
        drawing.Axis(f"Recall (share of {words.positives} found)", 0, 1, _FIFTHS),
        drawing.Axis(f"Precision ({words.positives} among alarms)", 0, 1, _FIFTHS),
    )
    chance = drawing.path(plane, "reference", [(0, share), (1, share)])
    return drawing.drawing(plane, "Precision-recall curve", [*drawing.curve(plane, points.rows()), chance])


def histogram_chart(bins: pl.DataFrame, words: Words = WORDS) -> str:
    """The bins of `metrics.score_histogram`: the share of each class by score."""
    totals = {name: bins[name].sum() for name in ("negative", "positive")}
    called = {"negative": f"{words.negative} rows", "positive": words.positives}
    shares = [count / totals[name] for name in totals for count in bins[name]]
    low, high = bins["low"][0], bins["high"][-1]
    names = {math.log(share / (1 - share)): drawing.percent(share) for share in _SHARES}
    ticks = {at: name for at, name in names.items() if low <= at <= high}
    plane = drawing.Plane(
        drawing.Axis("Score (scale of log-odds)", low, high, ticks),
        drawing.rising_axis("Share of the class", max(shares)),
    )
    marks = [
        drawing.bar(
            plane, name, row["low"], row["high"], row[name] / totals[name], f"{row[name]:,} {called[name]}"
        )
        for name in totals
        for row in bins.iter_rows(named=True)
        if row[name]
    ]
    return drawing.drawing(plane, "Scores by class", marks)


def calibration_chart(bins: pl.DataFrame, words: Words = WORDS) -> str:
    """The bins of `metrics.calibration_bins` with their intervals, over the diagonal of a true score."""
    smallest = min(
        (value for name in ("mean_score", "rate_low") for value in bins[name] if value > 0), default=1
    )
    floor = min(-1, max(-5, math.floor(math.log10(smallest))))
    ticks = {float(power): drawing.percent(10.0**power) for power in range(floor, 1)}
    plane = drawing.Plane(
        drawing.Axis("Mean score of the bin", floor, 0, ticks),
        drawing.Axis(f"Share of {words.positives} in the bin", floor, 0, ticks),
    )
    marks = [drawing.path(plane, "reference", [(floor, floor), (0, 0)])]
    for row in bins.iter_rows(named=True):
        x, low, rate, high = (
            math.log10(max(row[name], 10.0**floor))
            for name in ("mean_score", "rate_low", "positive_rate", "rate_high")
        )
        text = f"{row['positives']:,} {words.positives} in {row['rows']:,} rows ({row['positive_rate']:.2%})"
        text += f", mean score {row['mean_score']:.2%}"
        marks += [drawing.path(plane, "interval", [(x, low), (x, high)]), drawing.dot(plane, x, rate, text)]
    return drawing.drawing(plane, "Calibration", marks)


def daily_precision_chart(found: PrecisionAtK, words: Words = WORDS, called: str = "Precision") -> str:
    """Precision at k by day, in front of the share that clusters with positive rows could have filled."""
    by_day, k, title = found.by_day, found.k, f"{called} at {found.k}"
    names = {
        float(at): f"{_WEEKDAYS[day.weekday()]} {day.month:02}-{day.day:02}"
        for at, day in enumerate(by_day["day"])
    }
    attainable = [min(1.0, count / k) for count in by_day["positives"]]
    plane = drawing.Plane(
        drawing.Axis("", -0.5, len(names) - 0.5, names),
        drawing.rising_axis(title, max(attainable)),
    )
    marks = []
    for at, row in enumerate(by_day.iter_rows(named=True)):
        text = f"{row['found']:,} found of {row['positives']:,} with {words.positives}, "
        text += f"{row['clusters']:,} {words.clusters} in all"
        marks += [
            drawing.bar(plane, "pale", at - 0.36, at + 0.36, attainable[at], text),
            drawing.bar(plane, "bar", at - 0.36, at + 0.36, row["precision"], text),
        ]
    marks.append(drawing.path(plane, "reference", [(-0.5, found.mean), (len(names) - 0.5, found.mean)]))
    for at, precision in enumerate(by_day["precision"]):
        x, y = plane.place(at, 0)
        if precision:
            marks.append(drawing.text("on-bar", x, y - 8, f"{precision:.2f}"))
    return drawing.drawing(plane, f"{title} by day", marks)


def importance_chart(importance: pl.DataFrame) -> str:
    """The features with the most of the gain, of a frame with the columns feature and gain, highest first."""
    total = importance["gain"].sum() or 1.0
    shares = [(name, gain / total) for name, gain in importance.select("feature", "gain").rows()]
    return _ranking_chart(shares, "Feature importance by gain", "Share of the gain", "{:.2%} of the gain")


def contributions_chart(
    contributions: pl.DataFrame, axis: str = "Mean contribution to the log-odds, up or down"
) -> str:
    """The features that move the score most, of a frame with feature and contribution, highest first."""
    values = contributions.select("feature", "contribution").rows()
    return _ranking_chart(values, "Feature contributions", axis, "{:.4f} in the mean")


def cost_chart(curve: CostCurve, words: Words = WORDS) -> str:
    """The cost a day of `decisions.cost_curve` by alarms, with the lowest, over the cost of no check at all."""
    highest = max(*curve.points["cost_a_day"], curve.cost_a_day_of_nothing)
    plane = drawing.Plane(
        drawing.rising_axis("Alarms a day", max(curve.points["alarms_a_day"])),
        drawing.rising_axis("Cost a day", highest),
    )
    nothing = curve.cost_a_day_of_nothing
    text = f"{curve.alarms_a_day:,.0f} alarms a day, scores from {curve.threshold:.3f} on: {curve.cost_a_day:,.0f} a day"
    marks = [
        drawing.path(plane, "reference", [(0, nothing), (plane.x.high, nothing)]),
        drawing.path(plane, "line", curve.points.rows()),
        drawing.dot(plane, curve.alarms_a_day, curve.cost_a_day, text),
    ]
    return drawing.drawing(plane, f"Cost of checks and missed {words.positives}", marks)


def weeks_chart(weeks: Sequence[WeekFigures]) -> str:
    """Average precision week by week with its intervals, over the mean of the weeks."""
    names = {float(at): week.week[5:] for at, week in enumerate(weeks)}
    found = [week.average_precision for week in weeks]
    plane = drawing.Plane(
        drawing.Axis("", -0.5, len(weeks) - 0.5, names),
        drawing.rising_axis("Average precision", max(interval.high for interval in found)),
    )
    mean = sum(interval.value for interval in found) / len(found)
    marks = [drawing.path(plane, "reference", [(-0.5, mean), (len(weeks) - 0.5, mean)])]
    for at, (week, interval) in enumerate(zip(weeks, found, strict=True)):
        text = f"{week.week}: {interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"
        x, y = plane.place(at, interval.high)
        marks += [
            drawing.path(plane, "interval", [(at, interval.low), (at, interval.high)]),
            drawing.dot(plane, at, interval.value, text),
            drawing.text("value", x, y - 6, f"{interval.value:.3f}"),
        ]
    return drawing.drawing(plane, "Average precision by week", marks)


def _ranking_chart(values: Sequence[tuple[str, float]], title: str, axis: str, said: str) -> str:
    """Horizontal bars of the first values, which are the highest."""
    shown = values[:_MOST_BARS]
    names = {float(-at): _shortened(name) for at, (name, _) in enumerate(shown)}
    plane = drawing.Plane(
        drawing.rising_axis(axis, max(value for _, value in shown)),
        drawing.Axis("", 0.5 - len(shown), 0.5, names),
        left=20 + math.ceil(_WIDTH_OF_LETTER * max(len(name) for name in names.values())),
        across=True,
    )
    marks = []
    for at, (name, value) in enumerate(shown):
        left, top = plane.place(0, -at + 0.36)
        right, bottom = plane.place(value, -at - 0.36)
        marks.append(drawing.rectangle("bar", left, top, right, bottom, f"{name}: {said.format(value)}"))
    return drawing.drawing(plane, title, marks)


def _shortened(name: str) -> str:
    """A long name without its middle: what tells a feature from others, such as its window, often stands last."""
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[1 - half :]}"
