"""The silhouettes of things, as signed distances built from half-planes and circles.

Every function works in the thing's own frame: x to the right, y down, the silhouette fills the box
[-1, 1] x [-1, 1]. Distances are in units of the thing's radius, negative inside; they are exact beside an
edge and a bound elsewhere, which is all that anti-aliasing and outlines need.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Vertices = tuple[tuple[float, float], ...]

# Pixels around a silhouette's box that its anti-aliased edge may touch.
_EDGE_PIXELS = 1.0


def _disc(x: Field, y: Field, centre_x: float, centre_y: float, radius: float) -> Field:
    across, down = x - np.float32(centre_x), y - np.float32(centre_y)
    distance: Field = np.sqrt(across * across + down * down) - np.float32(radius)
    return distance


def _box(x: Field, y: Field, left: float, top: float, right: float, bottom: float) -> Field:
    across = np.abs(x - (left + right) / 2) - (right - left) / 2
    distance: Field = np.maximum(across, np.abs(y - (top + bottom) / 2) - (bottom - top) / 2)
    return distance


def _convex(x: Field, y: Field, vertices: Vertices) -> Field:
    """Largest distance to the edges' lines; vertices run clockwise as seen in the picture."""
    distance: Field | None = None
    for (x0, y0), (x1, y1) in zip(vertices, vertices[1:] + vertices[:1], strict=True):
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        normal_x, normal_y = (y1 - y0) / length, (x0 - x1) / length
        edge = x * normal_x + y * normal_y - (x0 * normal_x + y0 * normal_y)
        distance = edge if distance is None else np.maximum(distance, edge)
    assert distance is not None
    return distance


def _circle(x: Field, y: Field) -> Field:
    return _disc(x, y, 0.0, 0.0, 1.0)


def _square(x: Field, y: Field) -> Field:
    return _box(x, y, -0.92, -0.92, 0.92, 0.92)


def _triangle(x: Field, y: Field) -> Field:
    return _convex(x, y, ((0.0, -1.0), (1.0, 0.92), (-1.0, 0.92)))


def _star(x: Field, y: Field) -> Field:
    # Five-fold symmetry: reflect the point into one half of the upper arm, where the star is a half-plane.
    x, up = np.abs(x), np.float32(0.1) - y
    for mirror_x, mirror_up in ((0.809017, -0.587785), (-0.809017, -0.587785)):
        beyond: Field = 2 * np.maximum(x * mirror_x + up * mirror_up, np.float32(0))
        x, up = x - beyond * mirror_x, up - beyond * mirror_up
    tip, notch_x, notch_up = 1.05, 0.329160, 0.453050  # the notches lie at radius 0.56
    length = ((tip - notch_up) ** 2 + notch_x**2) ** 0.5
    distance: Field = np.abs(x) * ((tip - notch_up) / length) + (up - tip) * (notch_x / length)
    return distance


def _heart(x: Field, y: Field) -> Field:
    x = np.abs(x)
    # The right lobe, and the wedge below it whose side touches the lobe at (0.89, -0.106).
    wedge = _convex(x, y, ((-0.4, -0.42), (0.5, -0.42), (0.8896, -0.1064), (0.0, 1.0), (-0.4, 1.0)))
    return np.minimum(_disc(x, y, 0.5, -0.42, 0.5), wedge)


def _cross(x: Field, y: Field) -> Field:
    return np.minimum(_box(x, y, -1.0, -0.36, 1.0, 0.36), _box(x, y, -0.36, -1.0, 0.36, 1.0))


def _ring(x: Field, y: Field) -> Field:
    distance: Field = np.abs(_disc(x, y, 0.0, 0.0, 0.73)) - np.float32(0.27)
    return distance


def _moon(x: Field, y: Field) -> Field:
    return np.maximum(_disc(x, y, 0.12, 0.0, 1.0), -_disc(x, y, 0.72, -0.1, 0.72))


def _tree(x: Field, y: Field) -> Field:
    top = _convex(x, y, ((0.0, -1.0), (0.66, -0.08), (-0.66, -0.08)))
    skirt = _convex(x, y, ((0.0, -0.62), (1.0, 0.6), (-1.0, 0.6)))
    return np.minimum(np.minimum(top, skirt), _box(x, y, -0.24, 0.2, 0.24, 1.0))


def _house(x: Field, y: Field) -> Field:
    roof = _convex(x, y, ((0.0, -1.0), (1.0, -0.05), (-1.0, -0.05)))
    chimney = _box(x, y, 0.42, -0.92, 0.74, -0.1)
    return np.minimum(np.minimum(roof, chimney), _box(x, y, -0.72, -0.4, 0.72, 0.96))


def _fish(x: Field, y: Field) -> Field:
    body = np.maximum(_disc(x, y, -0.1, 0.2025, 0.9225), _disc(x, y, -0.1, -0.2025, 0.9225))
    tail = _convex(x, y, ((0.25, 0.0), (1.0, -0.8), (1.0, 0.8)))
    return np.minimum(body, tail)


def _arrow(x: Field, y: Field) -> Field:
    head = _convex(x, y, ((-0.05, -1.0), (1.0, 0.0), (-0.05, 1.0)))
    return np.minimum(head, _box(x, y, -1.0, -0.36, 0.3, 0.36))


def _eye(x: Field, y: Field) -> Field:
    return _disc(x, y, -0.52, -0.14, 0.15)


def _door(x: Field, y: Field) -> Field:
    return _box(x, y, -0.2, 0.22, 0.2, 1.0)


def _trunk(x: Field, y: Field) -> Field:
    return _box(x, y, -0.24, 0.6, 0.24, 1.0)


SILHOUETTES: dict[str, Callable[[Field, Field], Field]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "cross": _cross,
    "ring": _ring,
    "moon": _moon,
    "tree": _tree,
    "house": _house,
    "fish": _fish,
    "arrow": _arrow,
}

# Inner marks painted in the outline's ink; they lie inside the silhouette and do not change any mask.
MARKS: dict[str, Callable[[Field, Field], Field]] = {"fish": _eye, "house": _door, "tree": _trunk}


class Window:
    """The part of a picture that one thing can touch, with the thing's own coordinates of each pixel centre.

    Args:
        centre: (y, x) of the thing in pixels.
        radius: Half of the box that the silhouette fills, in pixels.
        picture_size: Height and width of the picture in pixels.
    """

    __slots__ = ("columns", "radius", "rows", "x", "y")

    def __init__(self, centre: tuple[float, float], radius: float, picture_size: int) -> None:
        self.radius = radius
        slices, axes = [], []
        for middle in centre:
            low = max(int(middle - radius - _EDGE_PIXELS), 0)
            high = min(int(middle + radius + _EDGE_PIXELS) + 1, picture_size)
            slices.append(slice(low, high))
            axes.append(((np.arange(low, high) + (0.5 - middle)) / radius).astype(np.float32))
        self.rows, self.columns = slices
        self.y, self.x = axes[0][:, None], axes[1][None, :]

    def distance(self, shape: str) -> Field:
        """Signed distance in pixels of each pixel centre of the window to the silhouette's edge, (h, w)."""
        return SILHOUETTES[shape](self.x, self.y) * np.float32(self.radius)

    def mark_distance(self, shape: str) -> Field | None:
        """Signed distance in pixels to the shape's inner mark, (h, w), or None where the shape has none."""
        mark = MARKS.get(shape)
        return None if mark is None else mark(self.x, self.y) * np.float32(self.radius)
