from __future__ import annotations

import re
from collections import Counter
from typing import Literal

import numpy as np
import pytest

from imglish.data.world.grammar import named_things
from imglish.data.world.language import captions, swapped_caption
from imglish.data.world.scene import COLOURS, HELD_OUT, SHAPES, Scene, WorldConfig, draw_scene
from tests.data.world.evaluator import check_caption

LONGEST_OF_THREE_THINGS = 28  # words


def _scenes(level: str = "easy", split: str = "train", count: int = 250) -> list[Scene]:
    return [draw_scene(WorldConfig(level=level), split, index) for index in range(count)]  # type: ignore[arg-type]


@pytest.mark.parametrize("level", ["easy", "full"])
def test_everything_a_caption_says_is_true(level: str) -> None:
    for scene in _scenes(level):
        for caption in captions(scene):
            check_caption(scene, caption)


def test_the_checker_notices_false_captions() -> None:
    scene = next(scene for scene in _scenes() if len(scene.things) == 2)
    first, second = (f"{thing.colour} {thing.shape}" for thing in scene.things)
    right = scene.things[0].centre[1] > scene.things[1].centre[1]
    wrong_size = next(size for size in ("small", "large") if size != scene.things[0].size)
    for false in (
        f"a {first}",
        f"there are three things: a {first} and a {second}",
        f"a {wrong_size} {first} and a {second}",
        f"a {first} to the {'left' if right else 'right'} of a {second}",
    ):
        with pytest.raises(AssertionError):
            check_caption(scene, false)


def test_captions_claim_sizes_relations_counts_and_places() -> None:
    said = " ".join(caption for scene in _scenes() for caption in captions(scene))
    for words in (
        "large",
        "small",
        "to the left of",
        "to the right of",
        "above",
        "below",
        "three things",
        "in the sky",
    ):
        assert said.count(words) > 5, words


def test_five_captions_differ_and_keep_short() -> None:
    for scene in _scenes():
        wordings = captions(scene)
        assert len(set(wordings)) == 5
        assert max(len(caption.split()) for caption in wordings) <= LONGEST_OF_THREE_THINGS


def test_every_caption_names_each_thing_once() -> None:
    for scene in _scenes("full"):
        for caption in captions(scene):
            assert sorted(named_things(caption)) == sorted((t.colour, t.shape) for t in scene.things)
            shapes = Counter(re.findall("|".join(SHAPES), caption))
            assert shapes == Counter(thing.shape for thing in scene.things)


def test_articles_fit_the_next_word() -> None:
    for scene in _scenes() + _scenes("full"):
        for caption in captions(scene):
            for article, following in re.findall(r"\b(an?) (\w)", caption):
                assert (article == "an") == (following in "aeiou"), caption


def test_the_order_of_mention_varies() -> None:
    for scene in _scenes("full", count=40):
        if len(scene.things) >= 4:
            assert len({tuple(named_things(caption)) for caption in captions(scene)}) >= 3


def test_named_things_reads_any_caption() -> None:
    assert named_things("A red star, and a Blue  fish near an orange arrow") == [
        ("red", "star"),
        ("orange", "arrow"),
    ]
    assert named_things("red and blue stars on starfish") == []
    assert named_things("") == []


@pytest.mark.parametrize("kind", ["shape", "colour"])
@pytest.mark.parametrize("split", ["train", "compositional"])
def test_a_swapped_caption_is_false_by_one_word(kind: Literal["shape", "colour"], split: str) -> None:
    rng = np.random.default_rng(0)
    words = SHAPES if kind == "shape" else tuple(COLOURS)
    for scene in _scenes("full", split, count=120):
        true = captions(scene)
        present = {(thing.colour, thing.shape) for thing in scene.things}
        false = swapped_caption(scene, rng, kind, true[1])
        changed = [
            (a, b)
            for a, b in zip(true[1].split(), false.split(), strict=True)
            if a != b and {a, b} != {"a", "an"}
        ]
        assert len(changed) == 1
        assert all(word.strip(",") in words for word in changed[0])
        strangers = set(named_things(false)) - present
        assert len(strangers) == 1
        if split == "train":
            assert not strangers & HELD_OUT


def test_a_swapped_caption_comes_from_one_of_the_five() -> None:
    scene, rng = _scenes()[0], np.random.default_rng(0)
    lengths = {len(caption.split()) for caption in captions(scene)}
    assert {len(swapped_caption(scene, rng, "shape").split()) for _ in range(40)} == lengths
