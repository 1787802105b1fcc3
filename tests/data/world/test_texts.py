from __future__ import annotations

import re

from imglish.data.world.scene import COLOURS, HELD_OUT, SHAPES, SIZES, STUFF, WorldConfig
from imglish.data.world.texts import text
from tests.data.world.evaluator import mentioned


def _texts(split: str, count: int = 500) -> list[str]:
    return [text(WorldConfig(), split, index) for index in range(count)]


def test_documents_are_short_lower_case_sentences() -> None:
    for document in _texts("train"):
        assert document == document.lower() and document.endswith(".")
        assert 3 <= len(document.split()) <= 70
        assert "  " not in document and "{" not in document and "none" not in document.split()


def test_the_corpus_holds_descriptions_stories_questions_statements_and_facts() -> None:
    corpus = _texts("train")
    for sign in (
        "there are",
        "once there was",
        "? ",
        ": true.",
        ": false.",
        "two things",
        "is a shape and",
        "then the",
    ):
        assert sum(sign in document for document in corpus) >= 3, sign
    words = set(re.findall(r"[a-z]+", " ".join(corpus)))
    assert words >= {*COLOURS, *SHAPES, *STUFF, *SIZES, "left", "right", "above", "below", "yes", "no"}


def test_documents_are_many_and_repeatable() -> None:
    corpus = _texts("train")
    assert corpus == _texts("train")
    assert len(set(corpus)) > 0.93 * len(corpus)


def test_splits_imagine_different_scenes() -> None:
    train, validation = set(_texts("train")), set(_texts("validation"))
    # Facts are few, and true in both.
    assert len(train & validation) < 0.1 * len(train)
    pairs = [
        [mentioned(text(WorldConfig(), split, i)) for split in ("train", "validation")] for i in range(300)
    ]
    told = [(set(a), set(b)) for a, b in pairs if a and b]
    assert sum(a == b for a, b in told) < 0.05 * len(told)
    assert text(WorldConfig(seed=1), "train", 0) != text(WorldConfig(), "train", 0)


def test_no_document_names_a_held_out_combination() -> None:
    for split in ("train", "validation"):
        for document in _texts(split):
            assert not {tuple(name.split()) for name in mentioned(document)} & HELD_OUT


def test_sums_of_things_are_right() -> None:
    sums = [
        document for document in _texts("train", 3000) if re.search(r"\bare (two|three) things\.$", document)
    ]
    assert len(sums) > 10
    for document in sums:
        numbers = [
            {"one": 1, "two": 2, "three": 3}[word] for word in re.findall(r"\b(one|two|three)\b", document)
        ]
        assert sum(numbers[:-1]) == numbers[-1], document
