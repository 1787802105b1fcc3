from __future__ import annotations

import torch

from imglish.metrics.token_accuracy import TokenAccuracy


def test_accuracy_stands_beside_the_best_constant_guess() -> None:
    metric = TokenAccuracy(("text", "image"))
    metric.update("text", torch.tensor([5, 6, 7]), torch.tensor([5, 6, 6]))
    metric.update("text", torch.tensor([0]), torch.tensor([9]))
    assert metric.compute() == {"text/accuracy": 0.5, "text/unigram": 0.5, "text/count": 4.0}


def test_streams_are_counted_apart_and_a_batch_may_hide_nothing() -> None:
    metric = TokenAccuracy(("text", "image"))
    nothing = torch.zeros(0, dtype=torch.int64)
    metric.update("text", nothing, nothing)
    metric.update("image", torch.tensor([1, 1]), torch.tensor([1, 2]))
    assert metric.compute() == {"image/accuracy": 0.5, "image/unigram": 0.5, "image/count": 2.0}
    metric.reset()
    assert metric.compute() == {}
