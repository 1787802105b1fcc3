from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imglish.data.formats.vqa import Answer, read_vqa
from imglish.errors import DataFormatError
from tests.data.formats.conftest import WriteJson

QUESTIONS = {
    "info": {},
    "task_type": "Open-Ended",
    "data_type": "mscoco",
    "data_subtype": "val2014",
    "questions": [
        {"image_id": 42, "question": "How many dogs?", "question_id": 42000},
        {"image_id": 42, "question": "Is it day?", "question_id": 42001},
    ],
}
ANNOTATIONS = {
    "data_subtype": "val2014",
    "annotations": [
        {
            "question_id": 42001,
            "image_id": 42,
            "question_type": "is it",
            "answer_type": "yes/no",
            "multiple_choice_answer": "yes",
            "answers": [{"answer_id": i + 1, "answer": "yes", "answer_confidence": "yes"} for i in range(10)],
        },
        {
            "question_id": 42000,
            "image_id": 42,
            "question_type": "how many",
            "answer_type": "number",
            "multiple_choice_answer": "2",
            "answers": [
                {"answer_id": 1, "answer": "2", "answer_confidence": "maybe"},
                {"answer_id": 2, "answer": "3", "answer_confidence": "no"},
            ],
        },
    ],
}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    (tmp_path / "coco").mkdir()
    for subtype in ("val2014", "test2015"):
        (tmp_path / f"coco/COCO_{subtype}_000000000042.jpg").write_bytes(b"x")
    return tmp_path / "coco"


def test_questions_are_joined_with_their_answers(write_json: WriteJson, coco: Path) -> None:
    first, second = read_vqa(write_json("q.json", QUESTIONS), write_json("a.json", ANNOTATIONS), coco)
    assert (first.question_id, first.image_id, first.question) == (42000, 42, "How many dogs?")
    assert first.path == coco / "COCO_val2014_000000000042.jpg"
    assert first.annotation is not None and second.annotation is not None
    assert first.annotation.answers == (Answer("2", "maybe"), Answer("3", "no"))
    assert (first.annotation.question_type, first.annotation.answer_type) == ("how many", "number")
    assert (second.annotation.most_common, len(second.annotation.answers)) == ("yes", 10)


def test_test_questions_have_no_answers_and_test_dev_uses_the_test_pictures(
    write_json: WriteJson, coco: Path
) -> None:
    questions = write_json("q.json", QUESTIONS | {"data_subtype": "test-dev2015"})
    first, _ = read_vqa(questions, None, coco)
    assert first.annotation is None and first.path == coco / "COCO_test2015_000000000042.jpg"


def test_other_pictures_can_have_other_names(write_json: WriteJson, pictures: Path) -> None:
    document = {"data_subtype": "mine", "questions": [{"image_id": 10, "question": "?", "question_id": 1}]}
    (record,) = read_vqa(write_json("q.json", document), None, pictures, picture_name="{image_id:x}.jpg")
    assert record.path == pictures / "a.jpg"


@pytest.mark.parametrize(
    ("which", "damage", "words"),
    [
        ("q", lambda d: d.pop("questions"), "the file has no key 'questions'"),
        ("q", lambda d: d.update(questions=[]), "has no questions"),
        ("q", lambda d: d["questions"][1].update(image_id=43), "COCO_val2014_000000000043.jpg', which"),
        ("q", lambda d: d["questions"][1].update(question_id=42000), "repeats question id 42000"),
        (
            "q",
            lambda d: d["questions"][1].update(question_id=5),
            "question 5 about image id 42, but .* does not answer",
        ),
        (
            "a",
            lambda d: d["annotations"].pop(),
            "question 42000 about image id 42, but .* does not answer it",
        ),
        ("a", lambda d: d["annotations"][0].update(image_id=1), "answers it for image id 1"),
        (
            "a",
            lambda d: d["annotations"][0].update(answer_type="colour"),
            "has answer_type 'colour', not one of yes/no",
        ),
        ("a", lambda d: d["annotations"][0].update(answers=[]), r"annotations\[0\] has no answers"),
        (
            "a",
            lambda d: d["annotations"][1]["answers"][1].pop("answer"),
            r"annotations\[1\]\.answers\[1\] has no key",
        ),
        (
            "a",
            lambda d: d["annotations"][1]["answers"][1].update(answer_confidence="sure"),
            "answer_confidence 'sure', not one of yes, maybe, no",
        ),
    ],
)
def test_wrong_files_are_refused(
    write_json: WriteJson,
    coco: Path,
    which: str,
    damage: Callable[[dict[str, Any]], object],
    words: str,
) -> None:
    documents = {"q": copy.deepcopy(QUESTIONS), "a": copy.deepcopy(ANNOTATIONS)}
    damage(documents[which])
    with pytest.raises(DataFormatError, match=words):
        read_vqa(write_json("q.json", documents["q"]), write_json("a.json", documents["a"]), coco)


def test_questions_and_annotations_that_were_swapped_are_refused(write_json: WriteJson, coco: Path) -> None:
    with pytest.raises(DataFormatError, match="has no key 'annotations'; expected VQA v2 annotations json"):
        read_vqa(write_json("a.json", ANNOTATIONS), write_json("q.json", QUESTIONS), coco)
