"""VQA v2 (Goyal et al. 2017): a questions json, and an annotations json with ten people's answers to each.

    {"data_subtype": "train2014", "questions": [{"question_id", "image_id", "question"}]}
    {"annotations": [{"question_id", "image_id", "question_type", "answer_type", "multiple_choice_answer",
                      "answers": [{"answer_id", "answer", "answer_confidence"}]}]}

The test questions have no annotations.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imglish.data.formats.json_entries import Entry, load_json
from imglish.data.formats.picture_folder import PictureFolder

_QUESTIONS = "VQA v2 questions json (data_subtype, questions)"
_ANNOTATIONS = "VQA v2 annotations json (annotations with answers)"

ANSWER_TYPES = ("yes/no", "number", "other")
CONFIDENCES = ("yes", "maybe", "no")
COCO_PICTURE = "COCO_{subtype}_{image_id:012d}.jpg"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one person answered, and how sure that person was: one of CONFIDENCES."""

    text: str
    confidence: str


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """The annotation of a question.

    Args:
        question_type: Its first words in VQA v2, such as "how many".
        answer_type: One of ANSWER_TYPES.
        most_common: The answer most people gave.
        answers: Ten in VQA v2.
    """

    question_type: str
    answer_type: str
    most_common: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class VqaRecord:
    """A question about a picture; ``annotation`` is None in test files."""

    question_id: int
    image_id: int
    path: Path
    question: str
    annotation: AnsweredQuestion | None


def read_vqa(
    questions: Path, annotations: Path | None, images: Path, picture_name: str = COCO_PICTURE
) -> tuple[VqaRecord, ...]:
    """Read questions, with their answers where there are any.

    Args:
        questions: The questions json.
        annotations: The annotations json; None for test questions.
        images: The folder of the pictures.
        picture_name: Format string of a picture's name, from ``image_id`` and the file's ``subtype``.

    Returns:
        One record for each question, in the order of the questions file.

    Raises:
        DataFormatError: A file is missing, damaged or of another layout, a picture does not exist, an answer
            type or confidence is unknown, or questions and annotations do not belong together.
    """
    file = load_json(questions, _QUESTIONS)
    # The test-dev questions are about pictures of test2015.
    subtype = file.text("data_subtype").replace("-dev", "")
    answered = {} if annotations is None else _read_annotations(annotations)
    folder = PictureFolder(images)
    records: list[VqaRecord] = []
    seen: set[int] = set()
    for entry in file.entries("questions"):
        question_id, image_id = entry.integer("question_id"), entry.integer("image_id")
        if question_id in seen:
            entry.fail(f"repeats question id {question_id}")
        seen.add(question_id)
        name = picture_name.format(image_id=image_id, subtype=subtype)
        path = folder.find(name)
        if path is None:
            entry.fail(f"is about picture {name!r}, which {images} does not have")
        annotation = None
        if annotations is not None:
            about, annotation = answered.get(question_id, (None, None))
            if about != image_id:
                found = "does not answer it" if about is None else f"answers it for image id {about}"
                entry.fail(f"is question {question_id} about image id {image_id}, but {annotations} {found}")
        records.append(VqaRecord(question_id, image_id, path, entry.text("question"), annotation))
    if not records:
        file.fail("has no questions")
    return tuple(records)


def read_common_answers(annotations: Path) -> tuple[str, ...]:
    """The answer most people gave to each question, in the order of an annotations json.

    The classes of the official weights are numbered in this order, and no picture need be there for it.

    Raises:
        DataFormatError: The file is missing, damaged or of another layout.
    """
    entries = load_json(annotations, _ANNOTATIONS).entries("annotations")
    return tuple(entry.text("multiple_choice_answer") for entry in entries)


def _read_annotations(path: Path) -> dict[int, tuple[int, AnsweredQuestion]]:
    """Image id and annotation by question id."""
    answered = {}
    for entry in load_json(path, _ANNOTATIONS).entries("annotations"):
        answer_type = _one_of(entry, "answer_type", ANSWER_TYPES)
        answers = tuple(
            Answer(answer.text("answer"), _one_of(answer, "answer_confidence", CONFIDENCES))
            for answer in entry.entries("answers")
        )
        if not answers:
            entry.fail("has no answers")
        answered[entry.integer("question_id")] = (
            entry.integer("image_id"),
            AnsweredQuestion(
                question_type=entry.text("question_type"),
                answer_type=answer_type,
                most_common=entry.text("multiple_choice_answer"),
                answers=answers,
            ),
        )
    return answered


def _one_of(entry: Entry, key: str, allowed: tuple[str, ...]) -> str:
    value = entry.text(key)
    if value not in allowed:
        entry.fail(f"has {key} {value!r}, not one of {', '.join(allowed)}")
    return value
