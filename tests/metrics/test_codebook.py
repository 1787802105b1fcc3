from __future__ import annotations

import math

import pytest
import torch

from imglish.metrics.codebook import CodebookUsage, perplexity


def test_usage_perplexity_and_cosine_over_several_batches() -> None:
    metric = CodebookUsage(8)
    metric.update(torch.tensor([[0, 0], [3, 3]]), torch.tensor([[1.0, 0.5], [0.0, 0.5]]))
    metric.update(torch.tensor([[5, 5, 6, 6]]), torch.ones(1, 4))
    scores = metric.compute()
    assert scores["codebook/usage"] == 4 / 8
    assert scores["codebook/perplexity"] == pytest.approx(4.0)
    assert scores["codebook/cosine"] == pytest.approx(6 / 8)


def test_perplexity_is_the_exponential_of_the_entropy() -> None:
    shares = [0.5, 0.25, 0.25]
    expected = math.exp(-sum(p * math.log(p) for p in shares))
    assert perplexity(torch.tensor([2.0, 1.0, 1.0, 0.0])).item() == pytest.approx(expected)
    assert perplexity(torch.tensor([0.0, 9.0])).item() == pytest.approx(1.0)


def test_reset_forgets() -> None:
    metric = CodebookUsage(4)
    metric.update(torch.tensor([[0, 1]]), torch.zeros(1, 2))
    metric.reset()
    assert metric.compute() == {}
    metric.update(torch.tensor([[2]]), torch.ones(1, 1))
    assert metric.compute() == {
        "codebook/usage": 0.25,
        "codebook/perplexity": pytest.approx(1.0),
        "codebook/cosine": 1.0,
    }
