from __future__ import annotations

from pathlib import Path

import pytest

from imglish.data.vocabulary import AnswerVocabulary, build_vocabulary, load_vocabulary
from imglish.errors import DataFormatError


def test_answers_frequent_enough_are_numbered_by_first_appearance() -> None:
    vocabulary = build_vocabulary(["red", "yes", "2", "yes", "red", "no", "yes"], min_count=2)
    assert vocabulary.answers == ("red", "yes")
    assert "yes" in vocabulary and "2" not in vocabulary
    with pytest.raises(DataFormatError, match="no answer occurs 4 times among 7 questions"):
        build_vocabulary(["red", "yes", "2", "yes", "red", "no", "yes"], min_count=4)


@pytest.mark.parametrize(("count", "score"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_score_follows_how_many_people_agree(count: int, score: float) -> None:
    answers = ["yes"] * count + ["unheard of"] * (10 - count)
    assert AnswerVocabulary(("no", "yes")).scores(answers).tolist() == pytest.approx([0.0, score])


def test_saved_file_is_the_official_one(tmp_path: Path) -> None:
    vocabulary = AnswerVocabulary(("yes", "café"))
    vocabulary.save(tmp_path / "answer2label.txt")
    assert (tmp_path / "answer2label.txt").read_text() == (
        '{"answer": "yes", "label": 0}\n{"answer": "caf\\u00e9", "label": 1}\n'
    )
    assert load_vocabulary(tmp_path / "answer2label.txt") == vocabulary


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty file"),
        ("yes\n", r'line 1: expected \{"answer"'),
        ('{"answer": "yes", "label": 0}\n{"answer": "no"}\n', "line 2"),
        ('{"answer": "yes", "label": 1}\n', "line 1: has label 1, expected 0"),
        ('{"answer": "yes", "label": 0}\n{"answer": "yes", "label": 1}\n', "line 2: expected a new answer"),
        ('{"answer": 3, "label": 0}\n', "line 1: expected a new answer, got 3"),
        ('{"answer": "yes", "la', "line 1"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "answers.txt"
    path.write_text(text)
    with pytest.raises(DataFormatError, match=problem):
        load_vocabulary(path)
    with pytest.raises(DataFormatError, match="no such file"):
        load_vocabulary(tmp_path / "none.txt")
