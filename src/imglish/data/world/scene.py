"""The scene graph: what is in a picture of the World, before any pixel is drawn.

A scene is a pure function of (config.seed, split, index). Lengths are drawn on a 64 x 64 canvas and scaled,
so that the same scene can be had at any picture size.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from imglish.data.world.shapes import SILHOUETTES, Window

SHAPES: tuple[str, ...] = tuple(SILHOUETTES)
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 28, 36),
    "orange": (255, 132, 12),
    "yellow": (255, 226, 40),
    "green": (22, 150, 54),
    "blue": (30, 78, 222),
    "purple": (140, 40, 178),
    "white": (252, 252, 252),
    "black": (22, 22, 26),
}
SIZES: tuple[str, ...] = ("small", "medium", "large")
STUFF: tuple[str, ...] = ("sky", "grass", "water", "sand", "road", "wall")
SPLITS: dict[str, int] = {"train": 0, "validation": 1, "compositional": 2, "text": 3}

# One colour of each shape is never seen in training; 12 of the 96 combinations.
HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    (tuple(COLOURS)[(3 * i + 1) % len(COLOURS)], shape) for i, shape in enumerate(SHAPES)
)

_CANVAS = 64
_TRIES = 12  # placements tried before other sizes are drawn
_GROUNDS = ("grass", "water", "sand", "road")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldConfig:
    """Which World to draw.

    Args:
        seed: Any non-negative integer; another seed is another World.
        picture_size: Height and width in pixels, 64 to 256.
        level: "easy" has one to three large things that hardly overlap; "full" one to six, down to small
            ones, with real occlusion, uneven light and noise.
    """

    seed: int = 0
    picture_size: int = 64
    level: Literal["easy", "full"] = "easy"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0; got {self.seed}")
        if not 64 <= self.picture_size <= 256:
            raise ValueError(f"picture_size must lie between 64 and 256; got {self.picture_size}")
        if self.level not in _LEVELS:
            raise ValueError(f"level must be one of {sorted(_LEVELS)}; got {self.level!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """One thing of a scene.

    Args:
        shape: One of SHAPES.
        colour: One of COLOURS.
        size: One of SIZES.
        centre: (y, x) in pixels, the picture's top left corner being (0, 0).
        radius: Half of the box that the silhouette fills, in pixels.
    """

    shape: str
    colour: str
    size: str
    centre: tuple[float, float]
    radius: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """A stretch of stuff that fills the picture below its upper edge, until the next region's.

    Args:
        stuff: One of STUFF.
        left: Height (y in pixels) of the upper edge at the picture's left border.
        right: The same at the right border; the edge is a straight line.
    """

    stuff: str
    left: float
    right: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """Everything there is to know about a picture.

    Args:
        split: One of SPLITS.
        index: Number of the scene in its split.
        seed: Seeds the texture, the noise and the wording of this scene.
        picture_size: Height and width in pixels.
        regions: From top to bottom; the first one's upper edge is the picture's.
        things: From far to near; no two have the same colour and shape.
        light: Overall brightness, 1 being neutral.
        slant: Change of brightness from the left border to the right one, as a share of the light.
        noise: Largest grain, in grey levels of 255.
    """

    split: str
    index: int
    seed: int
    picture_size: int
    regions: tuple[Region, ...]
    things: tuple[Thing, ...]
    light: float
    slant: float
    noise: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Level:
    """Ranges of one level, on the 64 x 64 canvas."""

    most_things: int
    radius: dict[str, tuple[float, float]]
    box_share: float  # largest share of the canvas that the boxes may take together
    box_overlap: float  # largest share of a thing's box that one other box may cover
    visible: float  # smallest share of each silhouette that must stay visible
    overhang: float  # share of the radius that may stick out of the picture
    light: float
    slant: float
    noise: float


_LEVELS = {
    "easy": _Level(
        most_things=3,
        radius={"small": (8.5, 9.5), "medium": (12.0, 13.0), "large": (15.5, 16.5)},
        box_share=0.60,
        box_overlap=0.12,
        visible=0.72,
        overhang=-0.04,
        light=0.05,
        slant=0.05,
        noise=4.0,
    ),
    "full": _Level(
        most_things=6,
        radius={"small": (5.0, 6.5), "medium": (8.5, 10.5), "large": (13.0, 16.0)},
        box_share=0.75,
        box_overlap=0.55,
        visible=0.4,
        overhang=0.3,
        light=0.22,
        slant=0.25,
        noise=12.0,
    ),
}


def draw_scene(config: WorldConfig, split: str, index: int) -> Scene:
    """Draw one scene graph.

    Args:
        config: The World.
        split: "train", "validation", "compositional" (each scene has a colour and shape combination of
            HELD_OUT, which no other split has) or "text" (scenes that are told but never drawn).
        index: Any non-negative number.

    Returns:
        The same scene for the same arguments, in any process. Scenes of another picture size differ in
        scale only.
    """
    rng = np.random.default_rng([config.seed, SPLITS[split], index])
    level = _LEVELS[config.level]
    seed = int(rng.integers(2**62))
    names = _draw_names(rng, int(rng.integers(1, level.most_things + 1)), split)
    regions = _draw_regions(rng)
    things = _place(rng, level, names, regions)
    light, slant = rng.uniform(-1, 1, size=2)
    scale = config.picture_size / _CANVAS
    return Scene(
        split=split,
        index=index,
        seed=seed,
        picture_size=config.picture_size,
        regions=tuple(
            Region(stuff=region.stuff, left=region.left * scale, right=region.right * scale)
            for region in regions
        ),
        things=tuple(
            Thing(
                shape=thing.shape,
                colour=thing.colour,
                size=thing.size,
                centre=(thing.centre[0] * scale, thing.centre[1] * scale),
                radius=thing.radius * scale,
            )
            for thing in things
        ),
        light=1 + level.light * float(light),
        slant=level.slant * float(slant),
        noise=level.noise,
    )


def _draw_names(rng: np.random.Generator, count: int, split: str) -> list[tuple[str, str]]:
    """Distinct (colour, shape) pairs; one in three repeats a colour or a shape, so that counting has work."""
    colours = tuple(COLOURS)
    held_out = sorted(HELD_OUT)
    names: list[tuple[str, str]] = []
    if split == "compositional":
        names.append(held_out[int(rng.integers(len(held_out)))])
    while len(names) < count:
        colour, shape = colours[int(rng.integers(len(colours)))], SHAPES[int(rng.integers(len(SHAPES)))]
        echo = rng.random()
        if names and echo < 0.15:
            colour = names[-1][0]
        elif names and echo < 0.3:
            shape = names[-1][1]
        if (colour, shape) not in names and (colour, shape) not in HELD_OUT:
            names.append((colour, shape))
    return [names[i] for i in rng.permutation(count)]


def _draw_regions(rng: np.random.Generator) -> list[Region]:
    """One to three bands; the sky only on top, a wall on top or under the sky, four grounds anywhere."""
    count = (1, 2, 2, 3)[int(rng.integers(4))]
    stuffs = [STUFF[int(rng.integers(len(STUFF)))]]
    while len(stuffs) < count:
        allowed = [ground for ground in _GROUNDS if ground not in stuffs]
        if stuffs == ["sky"]:
            allowed.append("wall")
        stuffs.append(allowed[int(rng.integers(len(allowed)))])
    regions = [Region(stuff=stuffs[0], left=0.0, right=0.0)]
    for i in range(1, count):
        height = _CANVAS * (i / count + float(rng.uniform(-0.08, 0.08)))
        tilt = float(rng.uniform(-2.5, 2.5))
        regions.append(Region(stuff=stuffs[i], left=height - tilt, right=height + tilt))
    return regions


def _place(
    rng: np.random.Generator, level: _Level, names: list[tuple[str, str]], regions: list[Region]
) -> list[Thing]:
    """Draw sizes and places until every thing and region can be seen; the names and regions stay as given."""
    while True:
        sizes = [SIZES[i] for i in rng.integers(len(SIZES), size=len(names))]
        radii = [float(rng.uniform(*level.radius[size])) for size in sizes]
        if sum((2 * radius) ** 2 for radius in radii) > level.box_share * _CANVAS**2:
            continue
        for _ in range(_TRIES):
            centres = _draw_centres(rng, level, radii)
            things = [
                Thing(shape=shape, colour=colour, size=size, centre=centre, radius=radius)
                for (colour, shape), size, centre, radius in zip(names, sizes, centres, radii, strict=False)
            ]
            if len(things) == len(names) and _all_visible(things, level.visible, regions):
                return things


def _draw_centres(rng: np.random.Generator, level: _Level, radii: list[float]) -> list[tuple[float, float]]:
    """Centres (y, x) for the first things that found a place; fewer than radii where one found none."""
    centres: list[tuple[float, float]] = []
    for i, radius in enumerate(radii):
        margin = radius * (1 - level.overhang)
        for y, x in rng.uniform(margin, _CANVAS - margin, size=(24, 2)).tolist():
            free = True
            for (other_y, other_x), other in zip(centres, radii[:i], strict=True):
                reach, smaller = radius + other, 2 * min(radius, other)
                high = min(max(reach - abs(y - other_y), 0.0), smaller)
                wide = min(max(reach - abs(x - other_x), 0.0), smaller)
                free = free and high * wide <= level.box_overlap * smaller**2
            if free:
                centres.append((y, x))
                break
        else:
            return centres
    return centres


def _all_visible(things: list[Thing], share: float, regions: list[Region]) -> bool:
    """Whether every thing shows the share of its silhouette, and every region a twentieth of the canvas."""
    covered = np.zeros((_CANVAS, _CANVAS), dtype=bool)
    for thing in reversed(things):
        window = Window(thing.centre, thing.radius, _CANVAS)
        silhouette = window.distance(thing.shape) <= 0
        hidden = silhouette & covered[window.rows, window.columns]
        if int(hidden.sum()) > (1 - share) * int(silhouette.sum()):
            return False
        covered[window.rows, window.columns] |= silhouette
    free_rows = _CANVAS - covered.sum(axis=1)
    tops = [int((region.left + region.right) / 2) for region in regions] + [_CANVAS]
    return all(int(free_rows[top:bottom].sum()) >= _CANVAS**2 / 20 for top, bottom in pairwise(tops))
