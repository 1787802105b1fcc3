"""Words for what a scene graph holds: names, places and relations, used only where they are plain to see."""

from __future__ import annotations

import re

from imglish.data.world.scene import COLOURS, SHAPES, Region, Scene, Thing

# Nearer than this along an axis (64 x 64 canvas), a thing is neither left nor right, above nor below another.
_PLAIN_OFFSET = 8.0
# A thing whose foot is nearer than this to a region's edge stands on no region in particular.
_PLAIN_FOOT = 2.0
# Where the foot of a thing is, as a share of its radius below its centre.
_FOOT = 0.9

RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "below")
OPPOSITE: dict[str, str] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
}
PLURALS: dict[str, str] = {
    shape: {"fish": "fish", "cross": "crosses"}.get(shape, f"{shape}s") for shape in SHAPES
}
_NAME = re.compile(rf"\b({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})\b")


def name(thing: Thing) -> str:
    """Colour and shape: "red star". No two things of a scene share it."""
    return f"{thing.colour} {thing.shape}"


def named_things(caption: str) -> list[tuple[str, str]]:
    """Read the (colour, shape) pairs back from a caption, in the order of mention."""
    return [(match[1], match[2]) for match in _NAME.finditer(caption.lower())]


def with_article(words: str) -> str:
    """Put "a" or "an" before the words."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def count_words(count: int) -> str:
    """The number as a word with its noun: "one thing", "two things", up to twelve."""
    numbers = "no one two three four five six seven eight nine ten eleven twelve".split()
    return f"{numbers[count]} thing{'' if count == 1 else 's'}"


def relations(scene: Scene, subject: Thing, reference: Thing) -> tuple[str, ...]:
    """Those of RELATIONS that plainly hold of the subject, seen from the reference; at most one an axis."""
    least = _PLAIN_OFFSET * scene.picture_size / 64
    down, across = (a - b for a, b in zip(subject.centre, reference.centre, strict=True))
    found = []
    if abs(across) >= least:
        found.append("left of" if across < 0 else "right of")
    if abs(down) >= least:
        found.append("above" if down < 0 else "below")
    return tuple(found)


def main_relation(scene: Scene, subject: Thing, reference: Thing) -> str | None:
    """The relation along the axis on which the two are farther apart, or None where nothing is plain."""
    found = relations(scene, subject, reference)
    if len(found) == 2:
        down, across = (abs(a - b) for a, b in zip(subject.centre, reference.centre, strict=True))
        return found[0] if across >= down else found[1]
    return found[0] if found else None


def ground(scene: Scene, thing: Thing) -> str | None:
    """The stuff on which the thing's foot stands, or None where the foot is close to an edge."""
    unit = scene.picture_size / 64
    y, x = min(thing.centre[0] + _FOOT * thing.radius, scene.picture_size), thing.centre[1]

    def depth(region: Region) -> float:
        return y - (region.left + (region.right - region.left) * x / scene.picture_size)

    if any(abs(depth(region)) < _PLAIN_FOOT * unit for region in scene.regions[1:]):
        return None
    return [region.stuff for region in scene.regions if depth(region) >= 0][-1]


def place(stuff: str) -> str:
    """Where a thing on this stuff is: "in the sky", "on the grass"."""
    return f"{'in' if stuff in ('sky', 'water') else 'on'} the {stuff}"


def stuff_noun(stuff: str) -> str:
    """The stuff as a sentence needs it: "grass", "a wall"."""
    return f"a {stuff}" if stuff in ("wall", "road") else stuff


def background(scene: Scene) -> str:
    """All regions from top to bottom: "sky above grass", "a wall above a road"."""
    return " above ".join(stuff_noun(region.stuff) for region in scene.regions)


def join(parts: list[str]) -> str:
    """Enumerate as English does: "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
