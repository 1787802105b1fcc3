"""Charts put points where their values say."""

from __future__ import annotations

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, strategies as st

from imglish.evaluation.plots import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Line,
    line_chart,
    log_ticks,
    moving_average,
    ticks,
)

PIXEL = 0.06  # coordinates are written with one decimal


def drawn(*lines: Line, log_x: bool = False) -> ElementTree.Element:
    return ElementTree.fromstring(
        line_chart(lines, title="a < b", x_label="step", y_label="loss", log_x=log_x)
    )


def points(svg: ElementTree.Element, style: str) -> list[tuple[float, float]]:
    found = next(node for node in svg.iter("polyline") if node.get("class") == style)
    pairs = (pair.split(",") for pair in found.get("points", "").split())
    return [(float(x), float(y)) for x, y in pairs]


def test_points_lie_where_the_axes_say() -> None:
    svg = drawn(Line("loss", ((0, 4.0), (50, 2.0), (100, 0.0))))
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    expected = [(LEFT, TOP), (LEFT + width / 2, TOP + height / 2), (LEFT + width, TOP + height)]
    for seen, wanted in zip(points(svg, "line series-0"), expected, strict=True):
        assert seen == pytest.approx(wanted, abs=PIXEL)


def test_a_logarithmic_axis_gives_each_decade_the_same_width() -> None:
    svg = drawn(Line("loss", ((0, 9.0), (1, 4.0), (10, 2.0), (100, 0.0))), log_x=True)
    xs = [x for x, _ in points(svg, "line series-0")]
    assert len(xs) == 3  # zero has no place on it
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=2 * PIXEL)


def test_the_title_is_read_out_and_escaped() -> None:
    assert drawn(Line("loss", ((0, 1.0), (1, 2.0)))).get("aria-label") == "a < b"


def test_values_that_are_not_finite_are_left_out() -> None:
    svg = drawn(Line("loss", ((0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0))))
    assert len(points(svg, "line series-0")) == 2


def test_a_single_point_is_a_dot_and_an_empty_line_keeps_its_number() -> None:
    svg = drawn(Line("a", ()), Line("b", ((5, 1.0),)))
    assert [dot.get("class") for dot in svg.iter("circle")] == ["dot series-1"]


def test_nothing_to_draw_is_said() -> None:
    chart = line_chart([Line("loss", ())], title="a < b", x_label="step", y_label="loss")
    assert chart == '<p class="empty">a &lt; b: no values yet</p>'


def test_long_lines_are_drawn_thin_and_smoothed() -> None:
    svg = drawn(Line("loss", tuple((i, float(i % 2)) for i in range(100))))
    thin, smooth = points(svg, "line thin series-0"), points(svg, "line series-0")
    assert len(thin) == len(smooth) == 100
    assert max(abs(a[1] - b[1]) for a, b in pairwise(smooth[10:90])) < 0.2 * HEIGHT


def test_a_moving_average_keeps_straight_lines_and_ends() -> None:
    line = [(float(i), 3.0 * i) for i in range(60)]
    for seen, wanted in zip(moving_average(line), line, strict=True):
        assert seen == pytest.approx(wanted)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_enclose_the_values_and_are_few(low: float, span: float) -> None:
    values = ticks(low, low + span)
    assert values[0] <= low + 1e-6 * span + 1e-9 * abs(low)
    assert values[-1] >= low + span - 1e-6 * span - 1e-9 * abs(low)
    assert 2 <= len(values) <= 8
    assert values == sorted(set(values))


def test_ticks_of_a_constant_leave_room_around_it() -> None:
    assert ticks(2.0, 2.0)[0] < 2.0 < ticks(2.0, 2.0)[-1]
    assert ticks(0.0, 0.0)[0] < 0.0 < ticks(0.0, 0.0)[-1]


def test_log_ticks_are_powers_of_ten_and_finer_where_few() -> None:
    assert log_ticks(1, 100_000) == [1, 10, 100, 1000, 10_000, 100_000]
    assert log_ticks(10, 60)[:4] == [10, 20, 50, 100]
