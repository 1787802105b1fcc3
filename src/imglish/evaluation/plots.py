"""Small line charts as inline SVG: they need no library, scale with the page and follow its colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 400, 210
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 34
SMOOTHED_FROM = 30  # shorter lines are drawn as they are


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart: its name and points (x, y), x ascending; what is not finite is left out."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class _Axis:
    """From values between ``low`` and ``high`` to pixels between ``start`` and ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def line_chart(lines: Sequence[Line], *, title: str, x_label: str, y_label: str, log_x: bool = False) -> str:
    """Draw lines in one chart.

    A line of many points is drawn twice: thin as it is, and thick as a moving average. Line i has the classes
    ``line`` and ``series-i``, whose colour and dashes the page's style sheet sets, together with those of
    ``grid``, ``axis`` and ``tick``.

    Args:
        lines: What to draw; lines without points are left out.
        title: Read out in place of the chart.
        x_label: Text under the chart.
        y_label: Text beside its left axis.
        log_x: Logarithmic x axis; points with x <= 0 are left out.

    Returns:
        An ``<svg>`` element, or a paragraph that says that there is nothing to draw.
    """
    kept = [(i, _drawable(line, log_x)) for i, line in enumerate(lines)]
    points = [point for _, line in kept for point in line]
    if not points:
        return f'<p class="empty">{escape(title)}: no values yet</p>'
    x_axis = _x_axis([x for x, _ in points], log_x)
    y_ticks = ticks(min(y for _, y in points), max(y for _, y in points))
    y_axis = _Axis(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    x_ticks = log_ticks(x_axis.low, x_axis.high) if log_x else ticks(x_axis.low, x_axis.high)
    parts = [
        *(_y_tick(value, y_axis.at(value)) for value in y_ticks),
        *(_x_tick(value, x_axis.at(value)) for value in x_ticks if x_axis.low <= value <= x_axis.high),
        _rule("axis", HEIGHT - BOTTOM),
        _text("label", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, x_label),
        f'<g transform="rotate(-90)">{_text("label", -(TOP + HEIGHT - BOTTOM) / 2, 10, y_label)}</g>',
        *(_draw(i, line, x_axis, y_axis) for i, line in kept if line),
    ]
    label = escape(title, quote=True)
    start = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
    return "".join([start, *parts, "</svg>"])


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers, evenly spaced, that hold ``low`` and ``high`` between them."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten around a positive interval, with 2 and 5 between them where they are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= 3 else (1,)
    return [factor * 10.0**power for power in powers for factor in factors]


def moving_average(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Each value averaged with its neighbours, a twentieth of the line on either side, fewer at the ends."""
    reach = max(len(points) // 20, 1)
    smooth = []
    for i, (x, _) in enumerate(points):
        near = min(reach, i, len(points) - 1 - i)
        window = points[i - near : i + near + 1]
        smooth.append((x, sum(y for _, y in window) / len(window)))
    return smooth


def _drawable(line: Line, log_x: bool) -> list[tuple[float, float]]:
    return [(x, y) for x, y in line.points if math.isfinite(x) and math.isfinite(y) and (x > 0 or not log_x)]


def _x_axis(values: Sequence[float], log_x: bool) -> _Axis:
    low, high = min(values), max(values)
    if low == high:
        low, high = (low / 2, high * 2) if log_x else (low - 1, high + 1)
    return _Axis(low, high, LEFT, WIDTH - RIGHT, log_x)


def _y_tick(value: float, y: float) -> str:
    return _rule("grid", y) + _text("tick", LEFT - 6, y + 3.5, _short(value), anchor="end")


def _x_tick(value: float, x: float) -> str:
    return _text("tick", x, HEIGHT - BOTTOM + 15, _short(value))


def _rule(style: str, y: float) -> str:
    """A horizontal line across the chart."""
    return f'<line class="{style}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _text(style: str, x: float, y: float, text: str, *, anchor: str = "middle") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _draw(index: int, points: list[tuple[float, float]], x_axis: _Axis, y_axis: _Axis) -> str:
    """One line: a dot where it is a single point, thin and smoothed where it is long."""
    if len(points) == 1:
        x, y = x_axis.at(points[0][0]), y_axis.at(points[0][1])
        return f'<circle class="dot series-{index}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    if len(points) < SMOOTHED_FROM:
        return _path(f"line series-{index}", points, x_axis, y_axis)
    thin = _path(f"line thin series-{index}", points, x_axis, y_axis)
    return thin + _path(f"line series-{index}", moving_average(points), x_axis, y_axis)


def _path(style: str, points: Sequence[tuple[float, float]], x_axis: _Axis, y_axis: _Axis) -> str:
    place = " ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in points)
    return f'<polyline class="{style}" points="{place}"/>'


def _short(value: float) -> str:
    """A tick label: 12k for 12000, no trailing zeros."""
    if abs(value) >= 1000:
        return f"{value / 1000:g}k"
    return f"{value:.6g}"
