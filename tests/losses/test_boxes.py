"""Losses of boxes equal torch's and torchvision's, or what is computed by hand; gradients are checked."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch.nn import functional as F

from imglish.losses.boxes import (
    centerness,
    summed_distribution_focal,
    summed_giou,
    summed_l1,
    summed_smooth_l1,
)
from tests.ops.test_boxes import boxes

WEIGHTS = torch.tensor([0.5, 2.0, 0.0], dtype=torch.float64)


def test_absolute_differences_by_hand() -> None:
    a, b = torch.tensor([[0.0, 0, 2, 0.5], [1, 0, 0, 0]]), torch.zeros(2, 4)
    assert summed_l1(a, b) == 3.5
    assert summed_l1(a, b, torch.tensor([2.0, 3.0])) == 8
    assert summed_smooth_l1(a, b) == 1.5 + 0.125 + 0.5
    assert summed_smooth_l1(a, b, torch.tensor([0.0, 1.0]), beta=2.0) == 0.25
    torch.testing.assert_close(
        summed_smooth_l1(a, b, beta=0.3), F.smooth_l1_loss(a, b, reduction="sum", beta=0.3)
    )


def test_giou_is_torchvisions() -> None:
    a, b = boxes(40, 1), boxes(40, 2)
    expected = torchvision.ops.generalized_box_iou_loss(a, b, reduction="sum")
    torch.testing.assert_close(summed_giou(a, b), expected, rtol=1e-6, atol=1e-6)
    each = torchvision.ops.generalized_box_iou_loss(a[:3], b[:3], reduction="none")
    torch.testing.assert_close(summed_giou(a[:3], b[:3], WEIGHTS), (each * WEIGHTS).sum())


def test_a_distance_is_shared_by_the_whole_numbers_around_it() -> None:
    logits = torch.randn(3, 4, 7, dtype=torch.float64)
    wanted = torch.tensor([[2.25, 0.0, 5.0, 5.9]] * 3, dtype=torch.float64)
    likely = logits.log_softmax(dim=2)
    per_row = -(
        0.75 * likely[:, 0, 2]
        + 0.25 * likely[:, 0, 3]
        + likely[:, 1, 0]
        + likely[:, 2, 5]
        + 0.1 * likely[:, 3, 5]
        + 0.9 * likely[:, 3, 6]
    )
    torch.testing.assert_close(summed_distribution_focal(logits, wanted), per_row.sum())
    weighed = summed_distribution_focal(logits, wanted, WEIGHTS[:, None])
    torch.testing.assert_close(weighed, (per_row * WEIGHTS).sum())


def test_centerness_by_hand() -> None:
    box = torch.tensor([[0.0, 0, 8, 4]]).expand(3, 4)
    found = centerness(torch.tensor([[4.0, 2.0], [2.0, 2.0], [0.0, 1.0]]), box)
    assert found.tolist() == pytest.approx([1.0, math.sqrt(1 / 3), 0.0])


def test_sums_of_nothing_are_zero_and_keep_the_graph() -> None:
    rows = torch.randn(2, 4, requires_grad=True)
    nothing, none = rows[:0], torch.zeros(0, 4)
    for loss in (summed_l1, summed_smooth_l1, summed_giou):
        total = loss(nothing, none, torch.zeros(0))
        total.backward()
        assert total == 0
    spread = summed_distribution_focal(nothing[..., None].expand(0, 4, 3), none)
    spread.backward()
    assert spread == 0 and rows.grad is not None and not rows.grad.any()


def test_half_precision_is_summed_in_single() -> None:
    a = boxes(4, 1).to(torch.bfloat16)
    for total in (summed_l1(a, a), summed_smooth_l1(a, a), summed_giou(a, a)):
        assert total.dtype == torch.float32 and abs(total) < 1e-6


def test_gradients_are_right() -> None:
    a, b = boxes(3, 1).requires_grad_(), boxes(3, 2)
    assert torch.autograd.gradcheck(lambda x: summed_giou(x, b, WEIGHTS), a)
    assert torch.autograd.gradcheck(lambda x: summed_smooth_l1(x, b, WEIGHTS, beta=3.0), a)
    assert torch.autograd.gradcheck(lambda x: summed_l1(x, b, WEIGHTS), a)
    logits = torch.randn(3, 4, 6, dtype=torch.float64, requires_grad=True)
    wanted = b.clamp(0, 4.9)
    assert torch.autograd.gradcheck(lambda x: summed_distribution_focal(x, wanted), logits)
