"""What charts are drawn of: axes, planes and marks as elements of SVG."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 520, 300
_TOP, _RIGHT, _BOTTOM, _LEFT = 12, 22, 46, 58
_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high`, named at the ticks; `title` is empty where the ticks say enough."""

    title: str
    low: float
    high: float
    ticks: Mapping[float, str]

    def share(self, value: float) -> float:
        """Where a value stands between `low` (0) and `high` (1)."""
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Plane:
    """The area between two axes, and where it stands in the drawing."""

    x: Axis
    y: Axis
    left: int = _LEFT
    across: bool = False

    def place(self, x: float, y: float) -> tuple[float, float]:
        """A point in drawing units, to the right and down."""
        width, height = WIDTH - self.left - _RIGHT, HEIGHT - _TOP - _BOTTOM
        return self.left + width * self.x.share(x), _TOP + height * (1 - self.y.share(y))


def rising_axis(title: str, highest: float) -> Axis:
    """From 0 to just above the highest value, in five steps or so."""
    step = next(
        step for power in range(-2, 18) for digit in _STEPS if highest <= 6 * (step := digit * 10.0**power)
    )
    steps = max(1, math.ceil(highest * 1.04 / step))
    return Axis(title, 0, steps * step, {step * at: f"{step * at:,.6g}" for at in range(steps + 1)})


def drawing(plane: Plane, title: str, marks: Iterable[str]) -> str:
    """A whole SVG element: the axes, the marks over them."""
    inside = "\n".join([*_axes(plane), *marks])
    opening = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
    return f"{opening}\n{inside}\n</svg>"


def _axes(plane: Plane) -> Iterator[str]:
    """The grid, the names of the ticks, and the titles."""
    x, y = plane.x, plane.y
    left, bottom = plane.place(x.low, y.low)
    right, top = plane.place(x.high, y.high)
    for value, name in x.ticks.items():
        at = plane.place(value, y.low)[0]
        if x.title:
            yield f'<path class="grid" d="M{at:.1f} {top:.1f}V{bottom:.1f}"/>'
        yield text("tick", at, bottom + 16, name)
    for value, name in y.ticks.items():
        at = plane.place(x.low, value)[1]
        if y.title:
            yield f'<path class="grid" d="M{left:.1f} {at:.1f}H{right:.1f}"/>'
        yield text("tick" if y.title else "name", left - 7, at + 4, name, "end")
    yield (
        f'<path class="baseline" d="M{left:.1f} {top:.1f}V{bottom:.1f}"/>'
        if plane.across
        else f'<path class="baseline" d="M{left:.1f} {bottom:.1f}H{right:.1f}"/>'
    )
    middle, height = (left + right) / 2, (top + bottom) / 2
    yield text("axis-title", middle, HEIGHT - 8, x.title)
    yield (
        f'<text class="axis-title" transform="translate(15 {height:.1f}) rotate(-90)" text-anchor="middle">'
        f"{escape(y.title)}</text>"
    )


def curve(plane: Plane, points: list[tuple[float, float]]) -> list[str]:
    """A line with the area below it."""
    closed = [(points[0][0], plane.y.low), *points, (points[-1][0], plane.y.low)]
    return [path(plane, "area", closed), path(plane, "line", points)]


def path(plane: Plane, kind: str, points: Iterable[tuple[float, float]]) -> str:
    places = (plane.place(x, y) for x, y in points)
    return f'<path class="{kind}" d="M' + "L".join(f"{x:.1f} {y:.1f}" for x, y in places) + '"/>'


def bar(plane: Plane, kind: str, low: float, high: float, value: float, text: str) -> str:
    left, top = plane.place(low, value)
    right, bottom = plane.place(high, plane.y.low)
    return rectangle(kind, left, top, right, bottom, text)


def rectangle(kind: str, left: float, top: float, right: float, bottom: float, text: str) -> str:
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
        f'height="{bottom - top:.1f}"><title>{escape(text)}</title></rect>'
    )


def dot(plane: Plane, x: float, y: float, text: str) -> str:
    across, down = plane.place(x, y)
    return (
        f'<circle class="dot" cx="{across:.1f}" cy="{down:.1f}" r="4"><title>{escape(text)}</title></circle>'
    )


def text(kind: str, x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def percent(share: float) -> str:
    return f"{share * 100:.6g}%"
