"""What can be asked, and how a batch of questions of one kind is put to a predictor."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from imglish.errors import CheckpointError
from imglish.inference.predictor import Predictor
from imglish.serving.fields import (
    AnswerFields,
    ClassifyFields,
    DetectFields,
    Fields,
    JudgeFields,
    MatchFields,
    NoFields,
    TextFields,
)

Result = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """Something to ask.

    Args:
        summary: What the answer is, for the documentation.
        fields: What a question has besides pictures.
        pictures: Names of its picture fields.
        ability: Of a predictor that can do it, given the fields.
        group: The part of the fields on which questions of one batch must agree.
        compute: The results of a batch of questions that agree, given for each question its fields and for
            each picture field the pictures of all questions.
        example: A question's fields, and its result.
    """

    summary: str
    fields: type[Fields]
    pictures: tuple[str, ...] = ("picture",)
    ability: Callable[[Any], str]
    group: Callable[[Any], Hashable] = lambda fields: None
    compute: Callable[[Predictor, Sequence[Any], Sequence[Sequence[Any]]], list[Result]]
    example: tuple[dict[str, Any], Result]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: its pictures uint8 (3, H, W), and the fields of each task that it asks for."""

    pictures: tuple[Tensor, ...]
    tasks: Mapping[str, Fields]

    def key(self) -> Hashable:
        """Requests with equal keys can be computed together."""
        return tuple((name, TASKS[name].group(fields)) for name, fields in sorted(self.tasks.items()))


def compute(predictor: Predictor, asked: Sequence[Asked]) -> list[dict[str, Result]]:
    """The result of each task of each request; the requests' keys are equal.

    Where a request asks for several tasks, what the model sees in its picture is computed once.
    """
    names = sorted(asked[0].tasks)
    columns: list[Sequence[Any]] = [
        list(column) for column in zip(*(one.pictures for one in asked), strict=True)
    ]
    if len(names) > 1:
        columns = [predictor.look(column) for column in columns]
    results: list[dict[str, Result]] = [{} for _ in asked]
    for name in names:
        fields = [one.tasks[name] for one in asked]
        for result, found in zip(results, TASKS[name].compute(predictor, fields, columns), strict=True):
            result[name] = found
    return results


def refusal(predictor: Predictor, ability: str) -> str:
    """Why a predictor lacks one of the abilities, in a sentence that names weights that could."""
    try:
        _ASK_NOTHING[ability](predictor)
    except CheckpointError as error:
        return str(error)
    raise AssertionError(f"it can {ability}")


def _caption(predictor: Predictor, fields: Sequence[NoFields], pictures: Sequence[Any]) -> list[Result]:
    return [{"caption": caption} for caption in predictor.caption(pictures[0])]


def _answer(predictor: Predictor, fields: Sequence[AnswerFields], pictures: Sequence[Any]) -> list[Result]:
    most = max(one.num_answers for one in fields)
    found = predictor.answer(pictures[0], [one.question for one in fields], most)
    return [
        {"answers": [answer._asdict() for answer in answers[: one.num_answers]]}
        for one, answers in zip(fields, found, strict=True)
    ]


def _classify(
    predictor: Predictor, fields: Sequence[ClassifyFields], pictures: Sequence[Any]
) -> list[Result]:
    most = max(one.num_classes for one in fields)
    found = predictor.classify(pictures[0], fields[0].classes, most)
    return [
        {"classes": [label._asdict() for label in labels[: one.num_classes]]}
        for one, labels in zip(fields, found, strict=True)
    ]


def _embed(predictor: Predictor, fields: Sequence[NoFields], pictures: Sequence[Any]) -> list[Result]:
    return [{"vector": vector} for vector in predictor.embed_images(pictures[0]).tolist()]


def _embed_text(predictor: Predictor, fields: Sequence[TextFields], pictures: Sequence[Any]) -> list[Result]:
    return [{"vector": vector} for vector in predictor.embed_texts([one.text for one in fields]).tolist()]


def _match(predictor: Predictor, fields: Sequence[MatchFields], pictures: Sequence[Any]) -> list[Result]:
    """Every text is read once, however many of the questions have it."""
    texts = list(dict.fromkeys(text for one in fields for text in one.texts))
    rows = predictor.match(pictures[0], texts).tolist()
    return [
        {"matches": [{"text": text, "similarity": row[texts.index(text)]} for text in one.texts]}
        for one, row in zip(fields, rows, strict=True)
    ]


def _judge(predictor: Predictor, fields: Sequence[JudgeFields], pictures: Sequence[Any]) -> list[Result]:
    found = predictor.judge(pictures[0], pictures[1], [one.statement for one in fields])
    return [{"probability_true": probability} for probability in found]


def _segment(predictor: Predictor, fields: Sequence[NoFields], pictures: Sequence[Any]) -> list[Result]:
    return [found.to_json() for found in predictor.segment(pictures[0])]


def _detect(predictor: Predictor, fields: Sequence[DetectFields], pictures: Sequence[Any]) -> list[Result]:
    return [
        {"objects": found.to_json()} for found in predictor.detect(pictures[0], min_score=fields[0].min_score)
    ]


def _panoptic(predictor: Predictor, fields: Sequence[NoFields], pictures: Sequence[Any]) -> list[Result]:
    return [found.to_json() for found in predictor.panoptic(pictures[0])]


_MASK = {"size": [64, 64], "counts": "PPY54d1"}
TASKS: dict[str, Task] = {
    "caption": Task(
        summary="A sentence about what is to be seen.",
        fields=NoFields,
        ability=lambda fields: "caption",
        compute=_caption,
        example=({}, {"caption": "a red star above a blue fish"}),
    ),
    "answer": Task(
        summary="The most probable answers to a question, best first; each is judged alone.",
        fields=AnswerFields,
        ability=lambda fields: "answer",
        compute=_answer,
        example=(
            {"question": "what colour is the star?", "num_answers": 2},
            {"answers": [{"text": "red", "probability": 0.97}, {"text": "orange", "probability": 0.02}]},
        ),
    ),
    "classify": Task(
        summary="The most probable classes, of training or of your own, best first.",
        fields=ClassifyFields,
        ability=lambda fields: "classify" if fields.classes is None else "classify_by_names",
        group=lambda fields: fields.classes,
        compute=_classify,
        example=(
            {"classes": ["star", "fish"], "num_classes": 1},
            {"classes": [{"name": "star", "probability": 0.93}]},
        ),
    ),
    "embed": Task(
        summary="The unit vector of a picture, or of a text, in the space in which they are compared.",
        fields=NoFields,
        ability=lambda fields: "embed",
        compute=_embed,
        example=({}, {"vector": [0.0625, -0.125, 0.25]}),
    ),
    "embed_text": Task(
        summary="The unit vector of a text.",
        fields=TextFields,
        pictures=(),
        ability=lambda fields: "embed",
        compute=_embed_text,
        example=({"text": "a red star"}, {"vector": [0.0625, -0.125, 0.25]}),
    ),
    "match": Task(
        summary="The cosine of a picture with each of some texts.",
        fields=MatchFields,
        ability=lambda fields: "embed",
        compute=_match,
        example=(
            {"texts": ["a red star", "two fish"]},
            {
                "matches": [
                    {"text": "a red star", "similarity": 0.71},
                    {"text": "two fish", "similarity": 0.12},
                ]
            },
        ),
    ),
    "judge": Task(
        summary="The probability that a statement about two pictures is true.",
        fields=JudgeFields,
        pictures=("left", "right"),
        ability=lambda fields: "judge",
        compute=_judge,
        example=({"statement": "both pictures have a star"}, {"probability_true": 0.88}),
    ),
    "segment": Task(
        summary="A mask for each class that is there, as COCO's compressed run lengths.",
        fields=NoFields,
        ability=lambda fields: "segment",
        compute=_segment,
        example=(
            {},
            {
                "names": ["sky", "star"],
                "size": [64, 64],
                "classes": [{"name": "star", "share": 0.125, "mask": _MASK}],
            },
        ),
    ),
    "detect": Task(
        summary="Objects with boxes (left, top, right, bottom) in pixels, and masks where there are any.",
        fields=DetectFields,
        ability=lambda fields: "detect",
        group=lambda fields: fields.min_score,
        compute=_detect,
        example=(
            {"min_score": 0.3},
            {"objects": [{"name": "star", "score": 0.98, "box": [4.0, 9.5, 30.0, 36.0], "mask": _MASK}]},
        ),
    ),
    "panoptic": Task(
        summary="The segments of things and stuff that a picture is cut into.",
        fields=NoFields,
        ability=lambda fields: "panoptic",
        compute=_panoptic,
        example=(
            {},
            {
                "size": [64, 64],
                "segments": [{"number": 1, "name": "star", "is_thing": True, "score": 0.98, "mask": _MASK}],
            },
        ),
    ),
}

_ASK_NOTHING: dict[str, Callable[[Predictor], object]] = {
    "caption": lambda predictor: predictor.caption([]),
    "answer": lambda predictor: predictor.answer([], []),
    "classify": lambda predictor: predictor.classify([]),
    "classify_by_names": lambda predictor: predictor.classify([], ["a"]),
    "embed": lambda predictor: predictor.embed_texts([]),
    "judge": lambda predictor: predictor.judge([], [], []),
    "segment": lambda predictor: predictor.segment([]),
    "detect": lambda predictor: predictor.detect([]),
    "panoptic": lambda predictor: predictor.panoptic([]),
}
