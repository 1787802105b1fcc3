from __future__ import annotations

import math

import pytest

from imglish.metrics.captioning.bleu import bleu

TOLERANCE = 1e-6  # the official scorer's own smoothing is far below


def test_a_hand_worked_pair_of_captions() -> None:
    candidates = ["the cat sat on the mat".split(), "a dog".split()]
    references = [
        ["the cat is on the mat".split(), "there is a cat on the mat".split()],
        ["a dog runs".split()],
    ]
    # matches of 1, 2, 3 and 4 words: 5 + 2, 3 + 1, 1 + 0, 0; totals: 8, 6, 4, 3; lengths 8 and 6 + 3
    penalty = math.exp(1 - 9 / 8)
    b1, b2, b3, b4 = bleu(candidates, references)
    assert b1 == pytest.approx(penalty * 7 / 8, abs=TOLERANCE)
    assert b2 == pytest.approx(penalty * (7 / 8 * 4 / 6) ** (1 / 2), abs=TOLERANCE)
    assert b3 == pytest.approx(penalty * (7 / 8 * 4 / 6 * 1 / 4) ** (1 / 3), abs=TOLERANCE)
    assert 0 < b4 < 1e-3  # nothing of four words matches


def test_a_word_counts_no_oftener_than_in_one_reference() -> None:
    b1 = bleu(["the the the the".split()], [["the cat the".split(), "the dog runs".split()]])[0]
    assert b1 == pytest.approx(2 / 4, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("lengths", "nearest"), [((3, 5), 3), ((5, 3), 3), ((2, 5), 5), ((9, 12), 9), ((4, 12), 4)]
)
def test_the_nearest_length_counts_and_of_two_the_shorter(lengths: tuple[int, int], nearest: int) -> None:
    b1 = bleu([["a"] * 4], [[["a"] * length for length in lengths]])[0]
    precision = min(4, max(lengths)) / 4
    assert b1 == pytest.approx(precision * min(1.0, math.exp(1 - nearest / 4)), abs=TOLERANCE)


def test_equal_captions_have_one_and_empty_ones_nothing() -> None:
    words = "a red star above the sand".split()
    assert bleu([words], [[words]]) == pytest.approx((1, 1, 1, 1), abs=TOLERANCE)
    assert max(bleu([[]], [[words]])) < TOLERANCE
    assert max(bleu([], [])) < TOLERANCE


def test_a_fraction_is_two_words() -> None:
    b1 = bleu([["1\u00a01/2", "cups"]], [[["1", "cups"]]])[0]
    assert b1 == pytest.approx(2 / 3, abs=TOLERANCE)


def test_missing_references_are_refused() -> None:
    with pytest.raises(ValueError):
        bleu([["a"]], [[]])
    with pytest.raises(ValueError):
        bleu([["a"]], [])
