"""Questions about a scene with one right answer each, and the ten answers that people might give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from imglish.data.world import grammar
from imglish.data.world.scene import COLOURS, HELD_OUT, SHAPES, SIZES, STUFF, Scene, Thing

NUM_ANSWERS = 10
# How many of the ten disagree, for answers of many values; the right one keeps full VQA accuracy.
_DISSENT = (0, 0, 0, 1, 1, 2, 3)
# The same for yes or no, where dissenters share one answer and would give it credit.
_BINARY_DISSENT = (0, 0, 1)


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its kind (one of KINDS), its right answer, and ten people's answers."""

    text: str
    kind: str
    answer: str
    answers: tuple[str, ...]


_T = TypeVar("_T")
_Asked = tuple[str, str]


def questions(scene: Scene) -> tuple[Question, ...]:
    """Four to six questions, of as many kinds as the scene allows, each with one answer that is plain to see.

    Kinds that could be guessed choose their answer first and then a question that has it, so that within a
    kind no answer is much more frequent than another. Colour questions name the shape only and shape
    questions the colour only; where that could mean two things, they are not asked.
    """
    rng = np.random.default_rng([scene.seed, 3])
    wanted = int(rng.integers(4, 7))
    asked: dict[str, Question] = {}
    kinds = [KINDS[i] for i in rng.permutation(len(KINDS))]
    # Scenes with few things run out of kinds; existence can be asked again without favouring any answer.
    for kind in [*kinds, "exists", "exists"]:
        drawn = _ASK[kind](scene, rng)
        if drawn is not None and drawn[0] not in asked:
            text, answer = drawn
            asked[text] = Question(text, kind, answer, _ten_answers(kind, answer, rng))
        if len(asked) == wanted:
            break
    return tuple(asked.values())


def _pick(rng: np.random.Generator, options: list[_T]) -> _T:
    return options[int(rng.integers(len(options)))]


def _colour(scene: Scene, rng: np.random.Generator) -> _Asked | None:
    shapes = Counter(thing.shape for thing in scene.things)
    things = [thing for thing in scene.things if shapes[thing.shape] == 1]
    if not things:
        return None
    thing = _pick(rng, things)
    forms = ["what colour is the {}?", "which colour does the {} have?", "what is the colour of the {}?"]
    return _pick(rng, forms).format(thing.shape), thing.colour


def _shape(scene: Scene, rng: np.random.Generator) -> _Asked | None:
    colours = Counter(thing.colour for thing in scene.things)
    things = [thing for thing in scene.things if colours[thing.colour] == 1]
    if not things:
        return None
    thing = _pick(rng, things)
    forms = ["what shape is the {} thing?", "what is the {} thing?", "which shape does the {} thing have?"]
    return _pick(rng, forms).format(thing.colour), thing.shape


def _size(scene: Scene, rng: np.random.Generator) -> _Asked | None:
    size = _pick(rng, list(SIZES))
    things = [thing for thing in scene.things if thing.size == size]
    if not things:
        return None
    forms = ["how large is the {}?", "what size is the {}?"]
    return _pick(rng, forms).format(grammar.name(_pick(rng, things))), size


def _count(scene: Scene, rng: np.random.Generator) -> _Asked | None:
    if rng.random() < 0.5:
        return "how many things are there?", str(len(scene.things))
    colours, shapes = Counter(t.colour for t in scene.things), Counter(t.shape for t in scene.things)
    counted = [(f"{colour} things", colours[colour]) for colour in COLOURS]
    counted += [(grammar.PLURALS[shape], shapes[shape]) for shape in SHAPES]
    numbers = sorted({count for _, count in counted})
    # Repeated colours and shapes are rare, so they are asked about where there are some.
    number = numbers[-1] if numbers[-1] > 1 and rng.random() < 0.5 else _pick(rng, numbers)
    what = _pick(rng, [what for what, count in counted if count == number])
    return f"how many {what} are there?", str(number)


def _background(scene: Scene, rng: np.random.Generator) -> _Asked | None:
    stuffs = [region.stuff for region in scene.regions]
    if len(stuffs) == 1:
        asked = [("what is the background?", stuffs[0])]
    else:
        asked = [("what is at the top of the picture?", stuffs[0])]
        asked.append(("what is at the bottom of the picture?", stuffs[-1]))
        for above, below in pairwise(stuffs):
            asked.append((f"what is below the {above}?", below))
            asked.append((f"what is above the {below}?", above))
        for thing in scene.things:
            stuff = grammar.ground(scene, thing)
            if stuff is not None:
                asked.append((f"where is the {grammar.name(thing)}?", stuff))
    return _pick(rng, asked)


def _exists(scene: Scene, rng: np.random.Generator) -> _Asked | None:
    thing, truth = _pick(rng, list(scene.things)), rng.random() < 0.5
    form = _pick(rng, ["is there {}?", "do you see {}?", "can you see {} in the picture?"])
    colours, shapes = {t.colour for t in scene.things}, {t.shape for t in scene.things}
    about = rng.random()
    if about < 0.25:
        what = f"{thing.colour if truth else _pick(rng, [c for c in COLOURS if c not in colours])} thing"
    elif about < 0.5:
        what = thing.shape if truth else _pick(rng, [shape for shape in SHAPES if shape not in shapes])
    else:
        what = grammar.name(thing) if truth else _absent_name(scene, thing, rng)
    return form.format(grammar.with_article(what)), "yes" if truth else "no"


def _absent_name(scene: Scene, thing: Thing, rng: np.random.Generator) -> str:
    """A name that shares its colour or shape with the thing; half the time both words fit the scene."""
    near = {(t.colour, thing.shape) for t in scene.things} | {(thing.colour, t.shape) for t in scene.things}
    far = {(colour, thing.shape) for colour in COLOURS} | {(thing.colour, shape) for shape in SHAPES}
    barred = {(t.colour, t.shape) for t in scene.things}
    if scene.split != "compositional":
        barred |= HELD_OUT
    choices = sorted(near - barred) if rng.random() < 0.5 else []
    colour, shape = _pick(rng, choices or sorted(far - barred))
    return f"{colour} {shape}"


def _relation(scene: Scene, rng: np.random.Generator) -> _Asked | None:
    related = [
        (subject, relation, reference)
        for subject in scene.things
        for reference in scene.things
        for relation in grammar.relations(scene, subject, reference)
    ]
    if not related:
        return None
    subject, relation, reference = _pick(rng, related)
    truth = rng.random() < 0.5
    said = relation if truth else grammar.OPPOSITE[relation]
    text = f"is the {grammar.name(subject)} {said} the {grammar.name(reference)}?"
    return text, "yes" if truth else "no"


_ASK: dict[str, Callable[[Scene, np.random.Generator], _Asked | None]] = {
    "colour": _colour,
    "shape": _shape,
    "size": _size,
    "count": _count,
    "background": _background,
    "exists": _exists,
    "relation": _relation,
}
KINDS: tuple[str, ...] = tuple(_ASK)


def _ten_answers(kind: str, answer: str, rng: np.random.Generator) -> tuple[str, ...]:
    """The right answer seven to ten times; who disagrees gives another answer of the same kind."""
    if kind in ("exists", "relation"):
        others = ["no" if answer == "yes" else "yes"]
        dissent = _pick(rng, list(_BINARY_DISSENT))
    else:
        numbers = [str(n) for n in (int(answer) - 1, int(answer) + 1) if n >= 0] if kind == "count" else []
        values = {"colour": tuple(COLOURS), "shape": SHAPES, "size": SIZES, "background": STUFF}
        others = numbers or [value for value in values[kind] if value != answer]
        dissent = min(_pick(rng, list(_DISSENT)), len(others))
    wrong = [others[i] for i in rng.permutation(len(others))[:dissent]]
    answers = wrong + [answer] * (NUM_ANSWERS - dissent)
    return tuple(answers[i] for i in rng.permutation(NUM_ANSWERS))
