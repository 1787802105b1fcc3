"""True and false statements about a pair of scenes, as in NLVR2, and about a single one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from imglish.data.world import grammar
from imglish.data.world.scene import COLOURS, HELD_OUT, SHAPES, STUFF, Scene


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement about a picture, or about a left and a right one; the label says whether it is true."""

    text: str
    label: bool


_T = TypeVar("_T")
# What a form can say of a pair: its true texts and its false texts.
_Texts = tuple[list[str], list[str]]


def statement(left: Scene, right: Scene, rng: np.random.Generator) -> Statement:
    """Say something about two scenes, true or false with equal chance.

    Only forms that could be said both truly and falsely of this very pair are used, and the truth is drawn
    after the form, so that the form tells nothing about the label.
    """
    says = [form(left, right) for form in _FORMS]
    true_texts, false_texts = _pick(rng, [texts for texts in says if texts[0] and texts[1]])
    label = bool(rng.random() < 0.5)
    return Statement(_pick(rng, true_texts if label else false_texts), label)


def remark(scene: Scene, rng: np.random.Generator) -> Statement:
    """Say of a single scene that it shows something, true or false with equal chance."""
    part = int(rng.integers(len(_ALL_WORDS) + 1))
    if part < len(_ALL_WORDS):
        shown = _attributes(scene)[part]
        others = _ALL_WORDS[part] - shown
    else:
        shown = {grammar.with_article(grammar.name(thing)) for thing in scene.things}
        others = {grammar.with_article(f"{c} {s}") for c in COLOURS for s in SHAPES if (c, s) not in HELD_OUT}
        others -= shown
    label = bool(rng.random() < 0.5)
    return Statement(f"the picture shows {_pick(rng, sorted(shown if label else others))}", label)


def _pick(rng: np.random.Generator, options: list[_T]) -> _T:
    return options[int(rng.integers(len(options)))]


def _attributes(scene: Scene) -> tuple[set[str], set[str], set[str]]:
    """What a scene shows, in words: colours, shapes, stuff."""
    colours = {grammar.with_article(f"{thing.colour} thing") for thing in scene.things}
    shapes = {grammar.with_article(thing.shape) for thing in scene.things}
    return colours, shapes, {grammar.stuff_noun(region.stuff) for region in scene.regions}


_ALL_WORDS: tuple[set[str], set[str], set[str]] = (
    {grammar.with_article(f"{colour} thing") for colour in COLOURS},
    {grammar.with_article(shape) for shape in SHAPES},
    {grammar.stuff_noun(stuff) for stuff in STUFF},
)


def _both(part: int) -> Callable[[Scene, Scene], _Texts]:
    def texts(left: Scene, right: Scene) -> _Texts:
        in_left, in_right = _attributes(left)[part], _attributes(right)[part]
        return _fill("both pictures show {}", in_left & in_right, in_left ^ in_right)

    return texts


def _exactly_one(part: int) -> Callable[[Scene, Scene], _Texts]:
    def texts(left: Scene, right: Scene) -> _Texts:
        in_left, in_right = _attributes(left)[part], _attributes(right)[part]
        in_both_or_none = (in_left & in_right) or _ALL_WORDS[part] - in_left - in_right
        return _fill("exactly one of the pictures shows {}", in_left ^ in_right, in_both_or_none)

    return texts


def _neither(part: int) -> Callable[[Scene, Scene], _Texts]:
    def texts(left: Scene, right: Scene) -> _Texts:
        seen = _attributes(left)[part] | _attributes(right)[part]
        return _fill("neither picture shows {}", _ALL_WORDS[part] - seen, seen)

    return texts


def _side(left: Scene, right: Scene) -> _Texts:
    names = [{grammar.with_article(grammar.name(thing)) for thing in scene.things} for scene in (left, right)]
    only_left, only_right = names[0] - names[1], names[1] - names[0]
    true_left, false_left = _fill("only the left picture shows {}", only_left, only_right)
    true_right, false_right = _fill("only the right picture shows {}", only_right, only_left)
    return true_left + true_right, false_left + false_right


def _more(left: Scene, right: Scene) -> _Texts:
    if len(left.things) == len(right.things):
        return [], []
    more, fewer = ("left", "right") if len(left.things) > len(right.things) else ("right", "left")
    form = "there are {} things in the {} picture than in the {} one"
    true = [form.format("more", more, fewer), form.format("fewer", fewer, more)]
    return true, [form.format("more", fewer, more), form.format("fewer", more, fewer)]


def _counts(left: Scene, right: Scene) -> _Texts:
    first, second = grammar.count_words(len(left.things)), grammar.count_words(len(right.things))
    form = "the left picture shows {} and the right one {}"
    return ([], []) if first == second else ([form.format(first, second)], [form.format(second, first)])


def _fill(form: str, true: set[str], false: set[str]) -> _Texts:
    return [form.format(word) for word in sorted(true)], [form.format(word) for word in sorted(false)]


_FORMS: tuple[Callable[[Scene, Scene], _Texts], ...] = (
    *(make(part) for make in (_both, _exactly_one, _neither) for part in range(3)),
    _side,
    _more,
    _counts,
)
