"""A second, slow description of the World's silhouettes and bands, point by point, to compare with."""

from __future__ import annotations

import math
from collections.abc import Sequence

from imglish.data.world.scene import Scene, Thing

Point = tuple[float, float]


def _in_polygon(x: float, y: float, corners: Sequence[Point]) -> bool:
    """Even-odd rule: count the edges that a ray to the right crosses."""
    inside = False
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            inside = not inside
    return inside


def _in_disc(x: float, y: float, centre_x: float, centre_y: float, radius: float) -> bool:
    return math.hypot(x - centre_x, y - centre_y) <= radius


def _star_corners() -> list[Point]:
    corners = []
    for i in range(10):
        radius, angle = (1.05, 0.56)[i % 2], math.pi * i / 5
        corners.append((radius * math.sin(angle), 0.1 - radius * math.cos(angle)))
    return corners


_CROSS = [
    (-0.36, -1.0),
    (0.36, -1.0),
    (0.36, -0.36),
    (1.0, -0.36),
    (1.0, 0.36),
    (0.36, 0.36),
    (0.36, 1.0),
    (-0.36, 1.0),
    (-0.36, 0.36),
    (-1.0, 0.36),
    (-1.0, -0.36),
    (-0.36, -0.36),
]
_ARROW = [
    (-1.0, -0.36),
    (-0.05, -0.36),
    (-0.05, -1.0),
    (1.0, 0.0),
    (-0.05, 1.0),
    (-0.05, 0.36),
    (-1.0, 0.36),
]
_TREE = (
    [(0.0, -1.0), (0.66, -0.08), (-0.66, -0.08)],
    [(0.0, -0.62), (1.0, 0.6), (-1.0, 0.6)],
    [(-0.24, 0.5), (0.24, 0.5), (0.24, 1.0), (-0.24, 1.0)],
)
_HOUSE = (
    [(0.0, -1.0), (1.0, -0.05), (-1.0, -0.05)],
    [(0.42, -0.92), (0.74, -0.92), (0.74, -0.1), (0.42, -0.1)],
    [(-0.72, -0.4), (0.72, -0.4), (0.72, 0.96), (-0.72, 0.96)],
)
_HEART_WEDGE = [(0.0, -0.42), (0.5, -0.42), (0.8896, -0.1064), (0.0, 1.0), (-0.8896, -0.1064), (-0.5, -0.42)]


def in_silhouette(shape: str, x: float, y: float) -> bool:
    """Whether the point, in units of the radius from the centre (y down), lies in the shape."""
    match shape:
        case "circle":
            return x * x + y * y <= 1
        case "square":
            return abs(x) <= 0.92 and abs(y) <= 0.92
        case "triangle":
            return _in_polygon(x, y, [(0.0, -1.0), (1.0, 0.92), (-1.0, 0.92)])
        case "star":
            return _in_polygon(x, y, _star_corners())
        case "heart":
            lobe = _in_disc(x, y, 0.5, -0.42, 0.5) or _in_disc(x, y, -0.5, -0.42, 0.5)
            return lobe or _in_polygon(x, y, _HEART_WEDGE)
        case "cross":
            return _in_polygon(x, y, _CROSS)
        case "ring":
            return 0.46 <= math.hypot(x, y) <= 1
        case "moon":
            return _in_disc(x, y, 0.12, 0, 1) and not _in_disc(x, y, 0.72, -0.1, 0.72)
        case "tree":
            return any(_in_polygon(x, y, part) for part in _TREE)
        case "house":
            return any(_in_polygon(x, y, part) for part in _HOUSE)
        case "fish":
            body = _in_disc(x, y, -0.1, 0.2025, 0.9225) and _in_disc(x, y, -0.1, -0.2025, 0.9225)
            return body or _in_polygon(x, y, [(0.25, 0.0), (1.0, -0.8), (1.0, 0.8)])
        case "arrow":
            return _in_polygon(x, y, _ARROW)
    raise AssertionError(f"no such shape: {shape}")


def covers(thing: Thing, x: float, y: float) -> bool:
    """Whether the thing's silhouette holds the point of the picture."""
    return in_silhouette(
        thing.shape, (x - thing.centre[1]) / thing.radius, (y - thing.centre[0]) / thing.radius
    )


def on_edge(scene: Scene, x: float, y: float, reach: float) -> bool:
    """Whether some silhouette or band has its edge within ``reach`` pixels of the point."""
    around = [
        (x + reach * math.cos(angle), y + reach * math.sin(angle))
        for angle in [i * math.pi / 4 for i in range(8)]
    ]
    here = [covers(thing, x, y) for thing in scene.things], band_at(scene, x, y)
    return any(([covers(thing, *at) for thing in scene.things], band_at(scene, *at)) != here for at in around)


def band_at(scene: Scene, x: float, y: float) -> int:
    """Index of the region that fills the point where no thing stands."""
    found = 0
    for i, region in enumerate(scene.regions):
        share = x / scene.picture_size
        if y >= (1 - share) * region.left + share * region.right:
            found = i
    return found
