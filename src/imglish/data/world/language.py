"""Captions of a scene: five wordings, each true of the scene graph and naming every thing exactly once."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import numpy as np

from imglish.data.world import grammar
from imglish.data.world.scene import COLOURS, HELD_OUT, SHAPES, Scene, Thing

# With more things than this a caption of sizes or places would not end.
_MOST_WITH_DETAIL = 3


def captions(scene: Scene) -> tuple[str, ...]:
    """Five captions: a list, one with sizes, one with relations, one with a count, one with places.

    The order of mention is drawn anew for each. Every thing is named once, with colour and shape, so that a
    hidden word can not be copied from another mention.
    """
    rng = np.random.default_rng([scene.seed, 2])
    wordings: tuple[Callable[[Scene, list[Thing], np.random.Generator], str], ...]
    wordings = (_listing, _with_sizes, _with_relations, _with_count, _with_places)
    return tuple(
        wording(scene, [scene.things[i] for i in rng.permutation(len(scene.things))], rng)
        for wording in wordings
    )


def swapped_caption(
    scene: Scene, rng: np.random.Generator, kind: Literal["shape", "colour"], caption: str | None = None
) -> str:
    """A caption that differs from a true one in exactly one word and is false of the scene.

    Args:
        scene: The scene.
        rng: Chooses the caption, the thing and the false word.
        kind: Which word of the thing's name to change.
        caption: The true caption to change; one of ``captions(scene)`` by default.

    Returns:
        The caption with one colour or shape replaced such that no thing of the scene has that colour and
        shape. Outside the compositional split the new name is not of HELD_OUT.
    """
    if caption is None:
        choices = captions(scene)
        caption = choices[int(rng.integers(len(choices)))]
    named = grammar.named_things(caption)
    colour, shape = named[int(rng.integers(len(named)))]
    if kind == "colour":
        others = [(other, shape) for other in COLOURS if other != colour]
    else:
        others = [(colour, other) for other in SHAPES if other != shape]
    present = {(thing.colour, thing.shape) for thing in scene.things}
    barred = present if scene.split == "compositional" else present | HELD_OUT
    allowed = [other for other in others if other not in barred]
    new_colour, new_shape = allowed[int(rng.integers(len(allowed)))]
    before, after = caption.split(f"{colour} {shape}")
    new_name = f"{new_colour} {new_shape}"
    # The article follows the word it stands before; that is spelling, not a second change.
    before, articles = re.subn(r"\ban? $", "", before)
    return f"{before}{grammar.with_article(new_name) if articles else new_name}{after}"


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _plain(thing: Thing) -> str:
    return grammar.with_article(grammar.name(thing))


def _sized(thing: Thing) -> str:
    return grammar.with_article(f"{thing.size} {grammar.name(thing)}")


def _listing(scene: Scene, things: list[Thing], rng: np.random.Generator) -> str:
    names, behind = grammar.join([_plain(thing) for thing in things]), grammar.background(scene)
    return _pick(
        rng,
        (
            f"{names} in front of {behind}",
            f"a picture of {names} with {behind} behind",
            f"{behind} with {names}",
        ),
    )


def _with_sizes(scene: Scene, things: list[Thing], rng: np.random.Generator) -> str:
    names = [_sized(thing) if len(things) <= _MOST_WITH_DETAIL else _plain(thing) for thing in things]
    if len(names) == 1:
        return _pick(rng, (f"just {names[0]}", f"a picture of {names[0]}", f"{names[0]} and nothing else"))
    rest = grammar.join(names[1:])
    return _pick(rng, (f"{names[0]} together with {rest}", f"you can see {grammar.join(names)}"))


def _with_relations(scene: Scene, things: list[Thing], rng: np.random.Generator) -> str:
    """A chain in which each thing is related to the one before it."""
    if len(things) == 1:
        return f"{_plain(things[0])} {_corner(scene, things[0])}"
    words = _plain(things[0])
    for before, thing in pairwise(things):
        relation = grammar.main_relation(scene, before, thing)
        if relation is None:
            words += f" close to {_plain(thing)}"
        elif relation in ("left of", "right of"):
            words += f" to the {relation} {_plain(thing)}"
        else:
            words += f" {relation} {_plain(thing)}"
        if thing is not things[-1]:
            words += ", which is"
    return words


def _with_count(scene: Scene, things: list[Thing], rng: np.random.Generator) -> str:
    names, count = grammar.join([_plain(thing) for thing in things]), grammar.count_words(len(things))
    verb = "is" if len(things) == 1 else "are"
    behind = grammar.background(scene)
    return _pick(
        rng,
        (
            f"there {verb} {count}: {names}",
            f"{count} on a background of {behind}: {names}",
            f"the picture shows {count}, {names}",
        ),
    )


def _with_places(scene: Scene, things: list[Thing], rng: np.random.Generator) -> str:
    """Things grouped by the stuff they stand on, so that each stuff is named once."""
    groups: dict[str, list[str]] = {}
    astride: list[str] = []
    for thing in things:
        stuff = grammar.ground(scene, thing)
        name = _sized(thing) if len(things) == 1 else _plain(thing)
        (astride if stuff is None else groups.setdefault(grammar.place(stuff), [])).append(name)
    parts = [f"{grammar.join(names)} {where}" for where, names in groups.items()]
    if not parts:
        return f"{grammar.join(astride)} {_pick(rng, ('in view', 'on show'))}"
    words = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + f", and {parts[-1]}"
    if astride:
        return f"{words}, with {grammar.join(astride)}"
    return _pick(rng, (words, f"we see {words}"))


def _corner(scene: Scene, thing: Thing) -> str:
    """Which of nine fields of the picture holds the centre."""
    rows, columns = ("top", "", "bottom"), ("left", "", "right")
    row = rows[min(int(3 * thing.centre[0] / scene.picture_size), 2)]
    column = columns[min(int(3 * thing.centre[1] / scene.picture_size), 2)]
    field = " ".join(word for word in (row, column) if word)
    return f"at the {field} of the picture" if field else "in the middle of the picture"
