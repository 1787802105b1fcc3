from __future__ import annotations

import pytest

from imglish.metrics.captioning.rouge import longest_common_subsequence, rouge_l


@pytest.mark.parametrize(
    ("a", "b", "length"),
    [
        ("police killed the gunman", "police kill the gunman", 3),  # the example of the paper
        ("police killed the gunman", "the gunman kill police", 2),
        ("a b c d e", "e d c b a", 1),
        ("a b a b", "b a b a", 3),
        ("a a a", "a", 1),
        ("a", "", 0),
        ("", "", 0),
    ],
)
def test_words_in_common_and_in_order_are_found(a: str, b: str, length: int) -> None:
    assert longest_common_subsequence(a.split(), b.split()) == length
    assert longest_common_subsequence(b.split(), a.split()) == length


def test_recall_counts_more_than_precision() -> None:
    (score,) = rouge_l(["a b x x".split()], [["a b".split()]])  # precision 1/2, recall 1
    assert score == pytest.approx(2.44 * 0.5 / (1 + 1.44 * 0.5))
    (score,) = rouge_l(["a b".split()], [["a b x x".split()]])  # precision 1, recall 1/2
    assert score == pytest.approx(2.44 * 0.5 / (0.5 + 1.44))


def test_precision_and_recall_may_come_from_different_references() -> None:
    (score,) = rouge_l(["a b c d".split()], [["a b c x y z".split(), "d".split()]])
    precision, recall = 3 / 4, 1.0
    assert score == pytest.approx(2.44 * precision * recall / (recall + 1.44 * precision))


def test_each_caption_has_its_score() -> None:
    assert rouge_l([["a"], ["a"], []], [[["a"]], [["b"]], [["a"], []]]) == [1.0, 0.0, 0.0]


def test_missing_references_are_refused() -> None:
    with pytest.raises(ValueError):
        rouge_l([["a"]], [[]])
    with pytest.raises(ValueError):
        rouge_l([], [[["a"]]])
