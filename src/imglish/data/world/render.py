"""From a scene to a picture: textured regions, outlined things with anti-aliased edges, light and grain.

Only additions, products and square roots touch the pixels, so that a picture has the same bytes everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imglish.data.world.scene import COLOURS, Region, Scene, Thing
from imglish.data.world.shapes import Field, Window

# Muted, so that no thing's colour is found among them.
_STUFF_COLOURS = {
    "sky": (172, 202, 224),
    "grass": (128, 158, 104),
    "water": (92, 146, 158),
    "sand": (216, 198, 160),
    "road": (124, 122, 126),
    "wall": (190, 150, 136),
}
_DARK_INK, _LIGHT_INK = (18, 20, 30), (250, 248, 240)
# Things darker than this get the light outline. Weights of the channels as in ITU-R BT.601.
_DARK_THING = 80.0
_OUTLINE = 1.5  # pixels on the 64 x 64 canvas, but never more than the next share of the radius
_OUTLINE_SHARE = 0.15
_SHADE = 0.10  # brightness a thing gains at its top left corner and loses at its bottom right one


def render(scene: Scene) -> NDArray[np.uint8]:
    """Draw the picture of a scene.

    Returns:
        (H, W, 3) RGB, height and width being ``scene.picture_size``.
    """
    size = scene.picture_size
    rng = np.random.default_rng([scene.seed, 1])
    canvas = _paint_region(scene.regions[0], size, rng)
    for region in scene.regions[1:]:
        share = np.clip(region_depth(region, size) + np.float32(0.5), 0, 1)[..., None]
        canvas += (_paint_region(region, size, rng) - canvas) * share
    for thing in scene.things:
        _paint_thing(canvas, thing, size)
    across = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / size - np.float32(0.5)
    canvas *= ((1 + scene.slant * across) * scene.light).astype(np.float32)[None, :, None]
    grain = rng.random((size, size, 1), dtype=np.float32) * 2 - 1
    canvas += grain * np.float32(scene.noise)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def region_depth(region: Region, size: int) -> Field:
    """How far below the region's upper edge each pixel centre lies, in pixels, (H, W); negative above."""
    middle = np.arange(size, dtype=np.float32) + np.float32(0.5)
    edge = np.float32(region.left) + middle * np.float32((region.right - region.left) / size)
    return middle[:, None] - edge[None, :]


def _paint_region(region: Region, size: int, rng: np.random.Generator) -> Field:
    """A whole picture of one stuff, (H, W, 3)."""
    base = np.array(_STUFF_COLOURS[region.stuff], dtype=np.float32)
    return base + _texture(region.stuff, size, rng)[..., None]


def _texture(stuff: str, size: int, rng: np.random.Generator) -> Field:
    """Brightness to add to a stuff's colour, in grey levels, (H, W)."""
    unit = np.float32(64 / size)
    y = (np.arange(size, dtype=np.float32) * unit)[:, None]
    x = (np.arange(size, dtype=np.float32) * unit)[None, :]
    if stuff == "sky":
        return _soft(rng, size, 5, 3) * 16 - y * np.float32(0.15)
    if stuff == "grass":
        return _soft(rng, size, 16, 64) * 14 + _soft(rng, size, 4, 4) * 6
    if stuff == "water":
        return _wave(y / np.float32(7) + _soft(rng, size, 4, 5)) * 14
    if stuff == "sand":
        return _soft(rng, size, 6, 4) * 8 + _soft(rng, size, 48, 48) * 6
    if stuff == "road":
        return _soft(rng, size, 32, 32) * 12
    course = np.floor(y / np.float32(8))
    joint = np.minimum(np.abs(y - course * 8), np.abs((x + course % 2 * 6) % 12))
    return np.where(joint < 1, np.float32(-22), _soft(rng, size, 8, 6) * 8)


def _soft(rng: np.random.Generator, size: int, rows: int, columns: int) -> Field:
    """Smooth noise between -1 and 1: a grid of random values, interpolated to (size, size)."""
    field = rng.random((rows + 1, columns + 1), dtype=np.float32) * 2 - 1
    down, across = _stretch(size, rows), _stretch(size, columns)
    field = field[down[0]] + (field[down[0] + 1] - field[down[0]]) * down[1][:, None]
    left = field[:, across[0]]
    return left + (field[:, across[0] + 1] - left) * across[1]


def _stretch(size: int, cells: int) -> tuple[NDArray[np.int64], Field]:
    """For each pixel the grid cell it lies in and its place within the cell, 0 to 1."""
    place = (np.arange(size) + 0.5) * (cells / size)
    cell = place.astype(np.int64)
    return cell, (place - cell).astype(np.float32)


def _wave(phase: Field) -> Field:
    """A triangle wave of period 1 between -1 and 1."""
    wave: Field = np.abs(phase - np.floor(phase) - np.float32(0.5)) * 4 - 1
    return wave


def _paint_thing(canvas: Field, thing: Thing, size: int) -> None:
    window = Window(thing.centre, thing.radius, size)
    colour = np.array(COLOURS[thing.colour], dtype=np.float32)
    dark = float(colour @ np.array([0.299, 0.587, 0.114], dtype=np.float32)) < _DARK_THING
    ink = np.array(_LIGHT_INK if dark else _DARK_INK, dtype=np.float32)
    distance = window.distance(thing.shape)
    inked = distance + np.float32(min(_OUTLINE * size / 64, _OUTLINE_SHARE * thing.radius))
    mark = window.mark_distance(thing.shape)
    if mark is not None:
        inked = np.maximum(inked, -mark)
    shade = 1 - (window.x + window.y) * np.float32(_SHADE / 2)
    paint = colour * shade[..., None]
    paint += (ink - paint) * np.clip(inked + np.float32(0.5), 0, 1)[..., None]
    below = canvas[window.rows, window.columns]
    below += (paint - below) * np.clip(np.float32(0.5) - distance, 0, 1)[..., None]
