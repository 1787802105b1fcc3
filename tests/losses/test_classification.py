from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from imglish.losses.classification import class_loss, soft_class_loss

TORCH = torch.Generator().manual_seed(0)
LOGITS, LABELS = torch.randn(6, 5, generator=TORCH), torch.tensor([0, 4, 2, 2, 1, 3])


def test_smoothing_spreads_its_mass_over_all_classes() -> None:
    smoothed = torch.full((6, 5), 0.1 / 5).scatter(1, LABELS[:, None], 0.9 + 0.1 / 5)
    expected = -(smoothed * F.log_softmax(LOGITS, dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(class_loss(LOGITS, LABELS, smoothing=0.1), expected)
    torch.testing.assert_close(soft_class_loss(LOGITS, smoothed), expected)


def test_shares_of_one_class_are_its_label() -> None:
    torch.testing.assert_close(soft_class_loss(LOGITS, F.one_hot(LABELS, 5)), class_loss(LOGITS, LABELS))


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits = torch.zeros(2, 1000, dtype=torch.bfloat16)
    loss = class_loss(logits, torch.tensor([3, 7]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(1000), rel=1e-6)
