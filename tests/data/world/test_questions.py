from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from imglish.data.world.questions import KINDS, NUM_ANSWERS, questions
from imglish.data.world.scene import COLOURS, HELD_OUT, Scene, WorldConfig, draw_scene
from tests.data.world.evaluator import answer, mentioned

# The commonest answer of a kind, as a share of the kind; the shares of a perfect balance are in the comments.
MOST_COMMON = {
    "colour": 0.20,  # 1/8
    "shape": 0.14,  # 1/12
    "size": 0.45,  # 1/3
    "count": 0.45,  # four values
    "background": 0.28,  # 1/6
    "exists": 0.56,  # 1/2
    "relation": 0.56,  # 1/2
}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(WorldConfig(), "train", index) for index in range(900)]


@pytest.mark.parametrize("level", ["easy", "full"])
@pytest.mark.parametrize("split", ["train", "compositional"])
def test_every_question_has_the_one_answer_given(level: str, split: str) -> None:
    for index in range(150):
        scene = draw_scene(WorldConfig(level=level), split, index)  # type: ignore[arg-type]
        for question in questions(scene):
            assert answer(scene, question.text) == question.answer, (question, scene.things)


def test_each_scene_gets_four_to_six_different_questions_of_many_kinds(scenes: list[Scene]) -> None:
    numbers = Counter(len(questions(scene)) for scene in scenes)
    assert set(numbers) == {4, 5, 6}
    for scene in scenes:
        asked = questions(scene)
        assert len({question.text for question in asked}) == len(asked)
        assert len({question.kind for question in asked}) >= 3


def test_no_answer_is_much_more_frequent_than_others(scenes: list[Scene]) -> None:
    given: dict[str, Counter[str]] = defaultdict(Counter)
    for scene in scenes:
        for question in questions(scene):
            given[question.kind][question.answer] += 1
    assert set(given) == set(KINDS) == set(MOST_COMMON)
    for kind, answers in given.items():
        assert answers.total() > 250, kind
        share = answers.most_common(1)[0][1] / answers.total()
        assert share < MOST_COMMON[kind], f"{kind}: {answers.most_common(3)}"


def test_questions_about_absent_things_use_words_of_the_scene(scenes: list[Scene]) -> None:
    near = total = 0
    for scene in scenes:
        for question in questions(scene):
            if question.kind == "exists" and question.answer == "no" and mentioned(question.text):
                (name,) = mentioned(question.text)
                colour, shape = name.split()
                hits = [colour in {t.colour for t in scene.things}, shape in {t.shape for t in scene.things}]
                assert any(hits)
                near, total = near + all(hits), total + 1
    assert near > 0.15 * total > 10


def test_training_questions_never_name_held_out_combinations(scenes: list[Scene]) -> None:
    for scene in scenes:
        for question in questions(scene):
            assert not {tuple(name.split()) for name in mentioned(question.text)} & HELD_OUT


def test_ten_people_answer_and_the_right_answer_keeps_full_credit(scenes: list[Scene]) -> None:
    disagreements = 0
    for scene in scenes:
        for question in questions(scene):
            votes = Counter(question.answers)
            assert votes.total() == NUM_ANSWERS
            assert votes[question.answer] >= 7
            # VQA accuracy is min(votes / 3, 1): a wrong answer must stay far from it.
            assert all(count == 1 for other, count in votes.items() if other != question.answer)
            disagreements += len(votes) > 1
            if question.kind == "colour":
                assert set(votes) <= set(COLOURS)
            if question.kind in ("exists", "relation"):
                assert set(votes) <= {"yes", "no"}
    assert disagreements > 200
