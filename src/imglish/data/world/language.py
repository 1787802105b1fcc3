"""What people would say of a scene: captions, their hard negatives, and how to read them back."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from imglish.data.world.scene import COLOURS, SHAPES, Scene, Thing

_KINDS = {"shape": SHAPES, "colour": tuple(COLOURS)}
_COLOUR_PATTERN = "|".join(COLOURS)
_SHAPE_PATTERN = "|".join(SHAPES)


def captions(scene: Scene) -> tuple[str, ...]:
    """Five captions of different wording.

    Each names every thing once, in an order of its own. The first three tell colour and shape (with sizes,
    places, or the background); the fourth says it in passing, the fifth tells the shapes alone, as short
    captions on the web do.
    """
    rng = np.random.default_rng([scene.seed, 2])
    orders = [[scene.things[i] for i in rng.permutation(len(scene.things))] for _ in range(5)]
    return (
        f"{_listed([_phrase(t, size=True) for t in orders[0]])} on the {_ground(scene)}",
        _with_places(orders[1], scene),
        f"{_background(scene)} with {_listed([_phrase(t) for t in orders[2]])}",
        f"a picture of {_listed([_phrase(t) for t in orders[3]])}",
        _listed([_article(t.shape) for t in orders[4]]),
    )


def named_things(caption: str) -> list[tuple[str | None, str]]:
    """Read a caption back: (colour, shape) of each thing it names; colour None where it tells none."""
    found = re.findall(rf"\b(?:({_COLOUR_PATTERN}) )?({_SHAPE_PATTERN})s?\b", caption)
    return [(colour or None, shape) for colour, shape in found]


def swapped_caption(caption: str, scene: Scene, kind: str, rng: np.random.Generator) -> str | None:
    """Make a caption false by exchanging one word.

    Args:
        caption: A true caption of the scene.
        scene: What is really there; no thing of it has the word that is put in.
        kind: "shape" or "colour".
        rng: Source of the draw.

    Returns:
        The caption with one word changed, or None where it has no word of that kind.
    """
    words = _KINDS[kind]
    places = [match for match in re.finditer(r"\b[a-z]+\b", caption) if match.group() in words]
    if not places:
        return None
    place = places[int(rng.integers(len(places)))]
    true = {thing.shape if kind == "shape" else thing.colour for thing in scene.things}
    false = [word for word in words if word not in true]
    word = false[int(rng.integers(len(false)))]
    swapped = f"{caption[: place.start()]}{word}{caption[place.end() :]}"
    return re.sub(r"\ban?(?= (\w))", lambda m: "an" if m.group(1) in "aeiou" else "a", swapped)


def _phrase(thing: Thing, *, size: bool = False) -> str:
    return _article(f"{thing.size} {thing.colour} {thing.shape}" if size else f"{thing.colour} {thing.shape}")


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _listed(parts: Sequence[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _ground(scene: Scene) -> str:
    return scene.regions[-1].stuff


def _background(scene: Scene) -> str:
    stuffs = [region.stuff for region in scene.regions]
    return stuffs[0] if len(stuffs) == 1 else f"{' above '.join(stuffs)}"


def _with_places(things: Sequence[Thing], scene: Scene) -> str:
    """Say of the first thing where it is; of two or more, how the first two lie to each other."""
    if len(things) == 1:
        return f"{_phrase(things[0])} {place_in_picture(things[0], scene.picture_size)} of the picture"
    first, second, *rest = things
    said = f"{_phrase(first)} {relation(first, second)} {_phrase(second)}"
    return f"{said}, and {_listed([_phrase(t) for t in rest])}" if rest else said


def place_in_picture(thing: Thing, picture_size: int) -> str:
    """Where a thing is: on the left, on the right, at the top, at the bottom or in the middle."""
    y, x = (coordinate / picture_size - 0.5 for coordinate in thing.centre)
    if max(abs(x), abs(y)) < 0.12:
        return "in the middle"
    if abs(x) >= abs(y):
        return "on the left" if x < 0 else "on the right"
    return "at the top" if y < 0 else "at the bottom"


def relation(first: Thing, second: Thing) -> str:
    """How the first thing lies to the second, along the axis that parts them most."""
    down = first.centre[0] - second.centre[0]
    right = first.centre[1] - second.centre[1]
    if abs(right) >= abs(down):
        return "left of" if right < 0 else "right of"
    return "above" if down < 0 else "below"
