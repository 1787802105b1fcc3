from __future__ import annotations

import pytest

from imglish.data.transforms.answers import normalise_answer


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("A hot-dog.", "hot dog"),
        ("The  Cat", "cat"),
        ("ten", "10"),
        ("twenty", "twenty"),
        ("none", "0"),
        ("3.5 ft.", "3.5 ft"),
        ("1,000 (or so)", "1000 or so"),
        ("red,white", "red white"),
        ("red, white", "red white"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("well", "well"),
        ("the", ""),
        ("?!", ""),
    ],
)
def test_answers_come_to_one_spelling(answer: str, normal: str) -> None:
    assert normalise_answer(answer) == normal


def test_a_comma_in_a_number_glues_all_other_marks_too() -> None:
    # A peculiarity of the evaluation, kept so that vocabularies are the official ones.
    assert normalise_answer("t-shirt") == "t shirt"
    assert normalise_answer("t-shirt 1,000") == "tshirt 1000"


def test_one_official_entry_takes_an_apostrophe_away() -> None:
    assert normalise_answer("somebody'd") == "somebodyd"


def test_a_normal_form_is_its_own() -> None:
    for answer in ("it isnt", "two dogs", "Mr. Smith's 12,500 cats", "a / b"):
        once = normalise_answer(answer)
        assert normalise_answer(once) == once
