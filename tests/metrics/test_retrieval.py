from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from imglish.metrics.retrieval import RetrievalRecall, rejection_rate


def test_recall_of_a_hand_worked_example() -> None:
    metric = RetrievalRecall()
    # Picture 7 has two texts; only the first of its two features may count.
    vision = torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
    text = torch.tensor([[0.96, 0.28], [1.0, 0.0], [0.8, 0.6]])
    metric.update(vision, text, torch.tensor([7, 7, 3]))
    scores = metric.compute()
    # All texts find picture 7; picture 7 finds its second text, picture 3 its own.
    assert scores["retrieval/image_recall_at_1"] == pytest.approx(2 / 3)
    assert scores["retrieval/text_recall_at_1"] == 1.0
    assert scores["retrieval/image_recall_at_5"] == scores["retrieval/text_recall_at_5"] == 1.0
    assert scores["retrieval/average"] == pytest.approx((2 / 3 + 5) / 6)


def test_recall_does_not_depend_on_the_batches() -> None:
    torch.manual_seed(0)
    ids = torch.randint(0, 12, (40,))
    pictures = F.normalize(torch.randn(12, 8), dim=1)[ids]
    text = F.normalize(pictures + 0.5 * torch.randn(40, 8), dim=1)
    whole, parts = RetrievalRecall(), RetrievalRecall()
    whole.update(pictures, text, ids)
    for rows in torch.chunk(torch.arange(40), 6):
        parts.update(pictures[rows], text[rows], ids[rows])
    assert whole.compute() == parts.compute()
    assert 0.0 < whole.compute()["retrieval/text_recall_at_1"] < 1.0
    whole.reset()
    assert whole.compute() == {}


def test_rejection_is_the_share_of_pictures_nearer_to_the_truth() -> None:
    vision = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    text = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.0, 1.0]])
    wrong = torch.tensor([[0.0, 1.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
    assert rejection_rate(vision, text, wrong) == 0.5  # the second is fooled, the fourth undecided
