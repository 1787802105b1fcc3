from __future__ import annotations

import re
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from imglish.data.world.scene import COLOURS, HELD_OUT, SHAPES, STUFF, Scene, WorldConfig, draw_scene
from imglish.data.world.statements import remark, statement
from imglish.data.world.texts import remarks
from tests.data.world.evaluator import judge, mentioned


def _pairs(level: str, count: int) -> list[tuple[Scene, Scene]]:
    scenes = [draw_scene(WorldConfig(level=level), "train", index) for index in range(count + 1)]  # type: ignore[arg-type]
    return list(pairwise(scenes))


@pytest.mark.parametrize("level", ["easy", "full"])
def test_every_label_is_right(level: str) -> None:
    rng = np.random.default_rng(1)
    for left, right in _pairs(level, 400):
        said = statement(left, right, rng)
        assert judge(left, right, said.text) == said.label, (said, left.things, right.things)


def test_the_form_of_a_statement_does_not_give_its_label_away() -> None:
    rng = np.random.default_rng(2)
    labels: dict[str, Counter[bool]] = defaultdict(Counter)
    for left, right in _pairs("easy", 700):
        for _ in range(4):
            said = statement(left, right, rng)
            form = re.sub(rf"\ban?\b|{'|'.join([*COLOURS, *SHAPES, *STUFF])}", "", said.text)
            form = re.sub(r"\b(one|two|three) things?\b|left|right|more|fewer", "", form)
            labels[form][said.label] += 1
    assert len(labels) >= 7
    for form, counts in labels.items():
        # Five standard deviations of a fair coin.
        slack = 2.5 * counts.total() ** -0.5
        assert abs(counts[True] / counts.total() - 0.5) < slack, (form, counts)


def test_statements_never_name_held_out_combinations_of_training() -> None:
    rng = np.random.default_rng(3)
    for left, right in _pairs("easy", 300):
        assert not {tuple(name.split()) for name in mentioned(statement(left, right, rng).text)} & HELD_OUT


def test_two_equal_scenes_still_get_a_statement() -> None:
    rng = np.random.default_rng(4)
    scene = draw_scene(WorldConfig(), "train", 0)
    said = [statement(scene, scene, rng) for _ in range(20)]
    assert {one.label for one in said} == {True, False}
    assert all(judge(scene, scene, one.text) == one.label for one in said)


def test_remarks_about_one_scene_are_judged_rightly_and_balanced() -> None:
    rng = np.random.default_rng(5)
    labels = Counter[bool]()
    for left, _ in _pairs("full", 300):
        for said in (remark(left, rng) for _ in range(4)):
            # "both pictures" of a picture beside itself say the same as "the picture".
            doubled = said.text.replace("the picture shows", "both pictures show")
            assert judge(left, left, doubled) == said.label, (said, left.things)
            assert not {tuple(name.split()) for name in mentioned(said.text)} & HELD_OUT
            labels[said.label] += 1
    assert abs(labels[True] / labels.total() - 0.5) < 2.5 * labels.total() ** -0.5  # five deviations


def test_judged_remarks_end_in_yes_or_no() -> None:
    scene = draw_scene(WorldConfig(), "train", 3)
    texts = remarks(scene, 40)
    assert len(texts) == 40 and texts == remarks(scene, 40)
    for text in texts:
        said, judgement = text.split(": ")
        doubled = said.replace("the picture shows", "both pictures show")
        assert judge(scene, scene, doubled) == {"yes.": True, "no.": False}[judgement]
