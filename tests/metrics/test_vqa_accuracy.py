from __future__ import annotations

import pytest
import torch

from imglish.metrics.vqa_accuracy import VqaAccuracy

# Soft scores of four questions over three answers.
ANSWERS = torch.tensor([[1.0, 0.0, 0.3], [0.6, 0.9, 0.0], [0.0, 0.0, 1.0], [0.0, 0.3, 0.0]])


def test_accuracy_is_the_mean_soft_score_of_the_chosen_answers() -> None:
    metric = VqaAccuracy(("colour", "count", "unseen"))
    metric.update(torch.tensor([0, 0]), ANSWERS[:2], torch.tensor([0, 1]), torch.tensor([10, 11]))
    metric.update(torch.tensor([1, 1]), ANSWERS[2:], torch.tensor([1, -1]), torch.tensor([12, 13]))
    assert metric.compute() == pytest.approx(
        {
            "vqa/accuracy": (1.0 + 0.6 + 0.0 + 0.3) / 4,
            "vqa/accuracy/colour": 1.0,
            "vqa/accuracy/count": 0.3,
        }
    )


def test_a_sample_seen_twice_counts_once() -> None:
    metric = VqaAccuracy()
    nothing = torch.tensor([-1, -1])
    metric.update(torch.tensor([0, 2]), ANSWERS[:2], nothing, torch.tensor([5, 6]))
    metric.update(torch.tensor([0, 2]), ANSWERS[:2], nothing, torch.tensor([5, 5]))
    assert metric.compute() == pytest.approx({"vqa/accuracy": 0.5})


def test_reset_forgets() -> None:
    metric = VqaAccuracy()
    metric.update(torch.tensor([0]), ANSWERS[:1], torch.tensor([-1]), torch.tensor([5]))
    metric.reset()
    assert metric.compute() == {}
