"""Focal losses equal torchvision's, or what their papers write; gradients are checked."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch.nn import functional as F

from imglish.losses.focal import summed_binary_cross_entropy, summed_focal, summed_quality_focal

LABELS = torch.tensor([2, -1, 0, -1, 1])
QUALITIES = torch.tensor([0.3, 0.9, 1.0, 0.0, 0.55], dtype=torch.float64)  # background's are not looked at


def logits() -> torch.Tensor:
    g = torch.Generator().manual_seed(3)
    return 3 * torch.randn(5, 3, generator=g, dtype=torch.float64)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.6, 1.5)])
def test_focal_loss_is_torchvisions(alpha: float, gamma: float) -> None:
    wanted = torch.zeros(5, 3, dtype=torch.float64)
    wanted[[0, 2, 4], [2, 0, 1]] = 1
    expected = torchvision.ops.sigmoid_focal_loss(logits(), wanted, alpha, gamma, reduction="sum")
    torch.testing.assert_close(summed_focal(logits(), LABELS, alpha=alpha, gamma=gamma), expected)


def test_quality_focal_loss_is_that_of_the_paper() -> None:
    """Equation 4 of arXiv 2006.04388, cell by cell and class by class."""
    given, total = logits(), torch.zeros((), dtype=torch.float64)
    for cell, (label, quality) in enumerate(zip(LABELS.tolist(), QUALITIES.tolist(), strict=True)):
        for kind in range(3):
            y = torch.tensor(quality if kind == label else 0.0, dtype=torch.float64)
            share = given[cell, kind].sigmoid()
            cross_entropy = (1 - y) * (1 - share).log() + y * share.log()
            total = total - (y - share).abs() ** 2 * cross_entropy
    torch.testing.assert_close(summed_quality_focal(given, LABELS, QUALITIES), total)


def test_binary_cross_entropy_is_torchs() -> None:
    given = logits()[:, 0]
    each = F.binary_cross_entropy_with_logits(given, QUALITIES, reduction="none")
    torch.testing.assert_close(summed_binary_cross_entropy(given, QUALITIES), each.sum())
    weighed = summed_binary_cross_entropy(given, QUALITIES, QUALITIES)
    torch.testing.assert_close(weighed, (each * QUALITIES).sum())


def test_sums_of_nothing_are_zero_and_keep_the_graph() -> None:
    rows = logits().requires_grad_()
    none = torch.zeros(0, dtype=torch.int64)
    total = summed_focal(rows[:0], none) + summed_quality_focal(rows[:0], none, QUALITIES[:0])
    total = total + summed_binary_cross_entropy(rows[:0, 0], QUALITIES[:0])
    total.backward()
    assert total == 0 and rows.grad is not None and not rows.grad.any()


def test_large_logits_give_finite_losses() -> None:
    given = torch.tensor([[1e4, -1e4, 0.0]] * 5).requires_grad_()
    total = summed_focal(given, LABELS) + summed_quality_focal(given, LABELS, QUALITIES)
    total.backward()
    assert total.isfinite() and given.grad is not None and given.grad.isfinite().all()


def test_half_precision_is_summed_in_single() -> None:
    given = logits().to(torch.float16)
    assert summed_focal(given, LABELS).dtype == torch.float32
    assert summed_quality_focal(given, LABELS, QUALITIES).dtype == torch.float32


def test_gradients_are_right() -> None:
    given = logits().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: summed_focal(x, LABELS), given)
    assert torch.autograd.gradcheck(lambda x: summed_quality_focal(x, LABELS, QUALITIES), given)
