"""A closed set of answers, as VQA models score it (parity FACTS, section 4)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imglish.errors import DataFormatError

_SCORES = (0.0, 0.3, 0.6, 0.9, 1.0)  # by the number of people who gave the answer, four or more alike


@dataclass(frozen=True, slots=True)
class AnswerVocabulary:
    """The answers a model can give; an answer's class is its place.

    Args:
        answers: Distinct answers.
    """

    answers: tuple[str, ...]
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index = {answer: number for number, answer in enumerate(self.answers)}
        if len(index) != len(self.answers):
            raise ValueError("an answer stands twice in the vocabulary")
        object.__setattr__(self, "_index", index)

    def __len__(self) -> int:
        return len(self.answers)

    def __contains__(self, answer: str) -> bool:
        return answer in self._index

    def scores(self, answers: Sequence[str]) -> NDArray[np.float32]:
        """Soft scores (len(self),) of what several people answered; answers outside count for nothing."""
        scores = np.zeros(len(self), dtype=np.float32)
        for answer, count in Counter(answers).items():
            if answer in self._index:
                scores[self._index[answer]] = _SCORES[min(count, 4)]
        return scores

    def save(self, path: Path) -> None:
        """Write the official ``answer2label.txt`` form: one json object a line, in the order of classes."""
        lines = [json.dumps({"answer": answer, "label": label}) for label, answer in enumerate(self.answers)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def build_vocabulary(most_common: Iterable[str], *, min_count: int) -> AnswerVocabulary:
    """Collect the answers that are the most common one of at least ``min_count`` questions.

    Args:
        most_common: The most common answer of each question; the official code takes training and
            validation questions, with normalised answers.
        min_count: 9 on VQAv2, which gives 3129 answers.

    Raises:
        DataFormatError: No answer is frequent enough.
    """
    counts = Counter(most_common)
    answers = tuple(answer for answer, count in counts.items() if count >= min_count)
    if not answers:
        raise DataFormatError(
            f"no answer occurs {min_count} times among {sum(counts.values())} questions; "
            "lower min_answer_count"
        )
    return AnswerVocabulary(answers)


def load_vocabulary(path: Path) -> AnswerVocabulary:
    """Read an ``answer2label.txt``.

    Raises:
        DataFormatError: The file is missing or no UTF-8 text, or its lines are not answers in the order of
            their labels.
    """
    if not path.is_file():
        raise DataFormatError(f"{path}: no such file; expected an answer vocabulary (answer2label.txt)")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataFormatError(
            f"{path}: not UTF-8 text ({error.reason}); expected an answer vocabulary (answer2label.txt)"
        ) from None
    answers: list[str] = []
    for number, line in enumerate(lines):
        try:
            entry = json.loads(line)
            answer, label = entry["answer"], entry["label"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataFormatError(
                f'{path}, line {number + 1}: expected {{"answer": ..., "label": ...}}, got {line[:60]!r}'
            ) from error
        if label != number:
            raise DataFormatError(f"{path}, line {number + 1}: has label {label}, expected {number}")
        if not isinstance(answer, str) or answer in answers:
            raise DataFormatError(f"{path}, line {number + 1}: expected a new answer, got {answer!r}")
        answers.append(answer)
    if not answers:
        raise DataFormatError(f"{path}: empty file; expected an answer vocabulary (answer2label.txt)")
    return AnswerVocabulary(tuple(answers))
