from __future__ import annotations

import numpy as np
import pytest

from imglish.data.world.shapes import MARKS, SILHOUETTES, Window
from tests.data.world.geometry import in_silhouette

# Points nearer to an edge than this share of the radius may fall on either side by rounding.
EDGE = 2e-3


def _grid(shape: str) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances and brute-force membership on a grid a little larger than the shape's box."""
    axis = np.linspace(-1.13, 1.13, 83, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    inside = np.array([[in_silhouette(shape, float(a), float(b)) for a in axis] for b in axis])
    return SILHOUETTES[shape](x, y), inside


@pytest.mark.parametrize("shape", SILHOUETTES)
def test_the_distance_is_negative_exactly_inside_the_shape(shape: str) -> None:
    distance, inside = _grid(shape)
    clear = np.abs(distance) > EDGE
    assert clear.mean() > 0.95
    np.testing.assert_array_equal((distance < 0)[clear], inside[clear])


@pytest.mark.parametrize("shape", SILHOUETTES)
def test_a_silhouette_fills_its_box_and_stays_in_it(shape: str) -> None:
    distance, _ = _grid(shape)
    axis = np.linspace(-1.13, 1.13, 83)
    rows, columns = (axis[(distance <= 0).any(axis=side)] for side in (1, 0))
    assert rows.min() >= -1.001 and rows.max() <= 1.001
    assert columns.min() >= -1.001 and columns.max() <= 1.001
    assert rows.max() - rows.min() > 1.5 and columns.max() - columns.min() > 1.75
    assert (distance <= 0).sum() * (2.26 / 82) ** 2 / 4 > 0.4


@pytest.mark.parametrize("shape", SILHOUETTES)
def test_distances_grow_at_most_as_fast_as_the_way(shape: str) -> None:
    distance, _ = _grid(shape)
    step = 2.26 / 82
    for axis in (0, 1):
        assert np.abs(np.diff(distance, axis=axis)).max() <= step * 1.001


def test_no_two_silhouettes_are_alike() -> None:
    masks = {shape: _grid(shape)[0] <= 0 for shape in SILHOUETTES}
    for shape, mask in masks.items():
        for other, other_mask in masks.items():
            overlap = (mask & other_mask).sum() / (mask | other_mask).sum()
            assert shape == other or overlap < 0.85, f"{shape} and {other} share {overlap:.2f}"


@pytest.mark.parametrize("shape", MARKS)
def test_marks_add_nothing_to_the_silhouette(shape: str) -> None:
    window = Window((32.0, 32.0), 20.0, 64)
    mark = window.mark_distance(shape)
    assert mark is not None
    painted = (mark <= 0) & (window.distance(shape) <= 0)
    assert painted.any()


def test_a_window_at_the_border_is_cut_to_the_picture() -> None:
    window = Window((2.0, 62.5), 9.0, 64)
    assert (window.rows.start, window.columns.stop) == (0, 64)
    assert window.distance("circle").shape == (window.rows.stop, 64 - window.columns.start)
    # The pixel whose centre is nearest to the thing's centre has the smallest coordinates.
    assert abs(window.x[0, 62 - window.columns.start]) * 9 == pytest.approx(0.0, abs=1e-6)
    assert abs(window.y[1, 0]) * 9 == pytest.approx(0.5, abs=1e-5)
