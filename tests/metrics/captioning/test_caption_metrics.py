from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import distributed as dist

from imglish.metrics.captioning.caption_metrics import CaptionMetrics

CAPTIONS = ["A red star.", "a blue fish under water", "two green trees", "an orange house", "a moon"]
REFERENCES = [
    ["a red star", "a star on sand"],
    ["a fish", "a blue fish in water"],
    ["two trees", "three green trees"],
    ["a house", "An orange house, isn't it?"],
    ["the moon"],
]
# Where the captions of two ranks begin and end: the second has one again, or the first has all.
CUTS = (((0, 3), (2, 5)), ((0, 5), (5, 5)))


def filled(start: int, stop: int) -> CaptionMetrics:
    metric = CaptionMetrics()
    metric.update(CAPTIONS[start:stop], REFERENCES[start:stop], torch.arange(start, stop))
    return metric


def test_words_of_all_scores_are_named_and_in_their_range() -> None:
    scores = filled(0, 5).compute()
    assert list(scores) == [*(f"caption/bleu_{i}" for i in (1, 2, 3, 4)), "caption/rouge_l", "caption/cider"]
    assert all(0 <= score <= 1 for name, score in scores.items() if name != "caption/cider")
    assert 1 < scores["caption/cider"] < 10


def test_capitals_and_punctuation_do_not_count() -> None:
    metric = CaptionMetrics()
    metric.update(["A RED star, above sand!"], [["a red star above sand"]], torch.tensor([0]))
    scores = metric.compute()
    assert scores["caption/rouge_l"] == pytest.approx(1)
    assert scores["caption/bleu_4"] == pytest.approx(1)


def test_a_picture_seen_twice_counts_once() -> None:
    metric = filled(0, 5)
    metric.update(["something else"], [REFERENCES[1]], torch.tensor([1]))
    assert metric.compute() == filled(0, 5).compute()


def test_the_order_of_pictures_does_not_matter() -> None:
    metric = CaptionMetrics()
    for i in (3, 1, 4, 0, 2):
        metric.update(CAPTIONS[i : i + 1], REFERENCES[i : i + 1], torch.tensor([i]))
    assert metric.compute() == filled(0, 5).compute()


def test_nothing_comes_of_nothing() -> None:
    metric = filled(0, 5)
    metric.reset()
    assert metric.compute() == {}


def test_a_picture_without_references_is_refused() -> None:
    with pytest.raises(ValueError, match="picture 7 has no reference"):
        CaptionMetrics().update(["a"], [[]], torch.tensor([7]))
    with pytest.raises(ValueError):
        CaptionMetrics().update(["a", "b"], [["a"]], torch.tensor([0, 1]))


@pytest.mark.parametrize("cuts", CUTS)
def test_two_ranks_together_see_what_one_would(
    monkeypatch: pytest.MonkeyPatch, cuts: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    ranks = [filled(*cut) for cut in cuts]
    seen: list[Any] = []

    def all_gather(parts: list[Any], mine: Any) -> None:
        """Stands for two processes: what each rank hands in is there in the second round."""
        seen.append(mine)
        parts[:] = seen[:2] if len(seen) > 2 else [[], []]

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather_object", all_gather)
    for _ in range(2):
        metrics = [copy.deepcopy(metric) for metric in ranks]
        for metric in metrics:
            metric.reduce()
    assert [metric.compute() for metric in metrics] == [filled(0, 5).compute()] * 2
