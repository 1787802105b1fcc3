from __future__ import annotations

import math

import pytest

from imglish.metrics.captioning.cider import cider


def test_equal_captions_have_ten_where_all_their_words_are_rare() -> None:
    texts = ["red star above sand".split(), "blue fish under water".split()]
    assert cider(texts, [[text] for text in texts]) == pytest.approx([10.0, 10.0])


def test_a_hand_worked_pair_of_captions() -> None:
    # "a" is in both pictures and weighs nothing; every other n-gram weighs log 2.
    candidates = ["a star".split(), "a fish".split()]
    references = [["a star".split(), "a red star".split()], ["a blue fish".split()]]
    # "a star" with itself: 1 for single words, 1 for pairs, nothing longer
    same = (1 + 1) / 4
    # with "a red star": "star" of "red", "star"; no pair in common; one word longer
    longer = (1 / math.sqrt(2)) / 4 * math.exp(-1 / 72)
    assert cider(candidates, references) == pytest.approx([10 * (same + longer) / 2, 10 * longer])


def test_words_that_all_pictures_have_weigh_nothing() -> None:
    assert cider([["a"], ["a"]], [[["a"]], [["a"]]]) == [0.0, 0.0]
    assert cider(["a red star".split()], [["a red star".split()]]) == [0.0]  # a single picture


def test_a_repeated_word_wins_nothing() -> None:
    references = [["red star".split()], ["blue fish".split()]]
    once, again = (
        cider([text.split(), ["fish"]], references)[0] for text in ("red star", "red star star star star")
    )
    assert again < once


def test_length_is_punished_by_a_gaussian() -> None:
    # "the" is in both pictures: repeating it adds length, and n-grams that are new, but nothing of one word.
    references = [["star the".split()], ["the".split()]]
    scores = [cider([["star"] + ["the"] * n, ["the"]], references)[0] for n in (1, 7)]
    of_words = [1.0, math.exp(-36 / 72)]
    # the one pair of the reference, "star the", stands beside five of "the the" in the longer text, which
    # are in no reference and weigh as much
    of_pairs = [1.0, math.exp(-36 / 72) / math.sqrt(1 + 6**2)]
    expected = [10 * (words + pairs) / 4 for words, pairs in zip(of_words, of_pairs, strict=True)]
    assert scores == pytest.approx(expected)


def test_a_fraction_is_two_words() -> None:
    references = [[["1", "1/2", "cups"]], [["fish"]]]
    assert cider([["1\u00a01/2", "cups"], ["fish"]], references)[0] == pytest.approx(10 * 3 / 4)


def test_missing_references_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one reference"):
        cider([["a"]], [[]])
    with pytest.raises(ValueError):
        cider([["a"]], [])
