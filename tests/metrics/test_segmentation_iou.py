"""Scores of class maps against plain counting in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imglish.metrics.segmentation_iou import SegmentationIou

NAMES = ("sky", "grass", "star", "never")


def maps() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 3, (4, 20, 30), generator=g)
    masks[:, :2] = 255
    wrong = torch.randint(0, 3, (4, 20, 30), generator=g)
    return torch.where(torch.rand(4, 20, 30, generator=g) < 0.6, masks.clamp(max=2), wrong), masks


def test_all_scores_equal_counting_pixel_by_pixel() -> None:
    predicted, masks = maps()
    metric = SegmentationIou(NAMES, {"ground": (0, 1)})
    for rows in (slice(0, 1), slice(1, 4)):  # in batches: sums, not means of means
        metric.update(predicted[rows], masks[rows])
    known = masks.numpy() != 255
    guess, truth = predicted.numpy()[known], masks.numpy()[known]
    both = [np.sum((guess == c) & (truth == c), dtype=np.float64) for c in range(3)]
    iou = [both[c] / np.sum((guess == c) | (truth == c), dtype=np.float64) for c in range(3)]
    dice = [
        2 * both[c] / (np.sum(guess == c, dtype=np.float64) + np.sum(truth == c, dtype=np.float64))
        for c in range(3)
    ]
    right = [both[c] / np.sum(truth == c, dtype=np.float64) for c in range(3)]
    assert metric.compute() == pytest.approx(
        {
            "semantic/mean_iou": np.mean(iou),
            "semantic/mean_iou_ground": np.mean(iou[:2]),
            "semantic/mean_dice": np.mean(dice),
            "semantic/pixel_accuracy": np.mean(guess == truth),
            "semantic/mean_accuracy": np.mean(right),
            **{f"semantic/iou/{NAMES[c]}": iou[c] for c in range(3)},
            **{f"semantic/dice/{NAMES[c]}": dice[c] for c in range(3)},
            **{f"semantic/accuracy/{NAMES[c]}": right[c] for c in range(3)},
        },
        rel=1e-12,
    )


def test_a_class_that_is_only_predicted_counts_for_iou_and_not_for_accuracy() -> None:
    metric = SegmentationIou(NAMES)
    metric.update(torch.tensor([[0, 0, 3, 3]]), torch.tensor([[0, 0, 0, 0]]))
    found = metric.compute()
    assert found["semantic/iou/never"] == 0 and "semantic/accuracy/never" not in found
    assert found["semantic/dice/never"] == 0 and found["semantic/mean_dice"] == pytest.approx((2 / 3) / 2)
    assert found["semantic/mean_iou"] == 0.25 and found["semantic/mean_accuracy"] == 0.5


def test_nothing_labelled_scores_nothing() -> None:
    metric = SegmentationIou(NAMES)
    metric.update(torch.zeros(1, 2, 2, dtype=torch.int64), torch.full((1, 2, 2), 255))
    assert metric.compute() == {
        "semantic/mean_iou": 0.0, "semantic/mean_dice": 0.0, "semantic/pixel_accuracy": 0.0,
        "semantic/mean_accuracy": 0.0,
    }  # fmt: skip


def test_shares_are_those_of_the_labelled_pixels() -> None:
    metric = SegmentationIou(NAMES)
    assert metric.class_shares().tolist() == [0, 0, 0, 0]
    metric.update(torch.zeros(1, 1, 4, dtype=torch.int64), torch.tensor([[[2, 0, 2, 255]]]))
    assert metric.class_shares().tolist() == pytest.approx([1 / 3, 0, 2 / 3, 0])
