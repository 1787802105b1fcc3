"""Terms of two-stage detectors on numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from imglish.losses.two_stage import (
    CASCADE_LOSS,
    HTC_LOSS,
    TwoStageLoss,
    box_terms,
    mask_term,
    rpn_terms,
    semantic_term,
)
from imglish.structures.two_stage import BoxStage, MaskStage, RoiSample, RpnSample

LN2 = math.log(2)
BOXES = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 20.0, 10.0]])
MATCHED = torch.tensor([[1.0, 0.0, 11.0, 10.0], [0.0, 0.0, 20.0, 10.0]])  # a tenth of a side to the right
STDS = (0.1, 0.1, 0.2, 0.2)


def rpn_sample() -> RpnSample:
    return RpnSample(
        objectness=torch.zeros(2),
        deltas=torch.zeros(2, 4),
        anchors=BOXES,
        matched=MATCHED,
        foreground=torch.tensor([True, False]),
        levels=torch.zeros(2, dtype=torch.int64),
        divisor=torch.tensor(4),
    )


def stage(num_boxes: int, deltas: Tensor | None = None) -> BoxStage:
    sample = RoiSample(
        boxes=BOXES,
        pictures=torch.zeros(2, dtype=torch.int64),
        labels=torch.tensor([1, 3]),
        objects=torch.tensor([0, -1]),
        matched=MATCHED,
        is_truth=torch.tensor([False, False]),
    )
    deltas = torch.zeros(2, num_boxes, 4) if deltas is None else deltas
    return BoxStage(sample, torch.zeros(2, 4), deltas, STDS)


def test_proposals_are_averaged_over_what_the_sample_says() -> None:
    terms = rpn_terms(rpn_sample(), TwoStageLoss())
    assert float(terms["rpn_class"].mean) == pytest.approx(2 * LN2 / 4)
    assert float(terms["rpn_box"].mean) == pytest.approx(0.1 / 4)
    smooth = rpn_terms(rpn_sample(), CASCADE_LOSS)["rpn_box"]
    assert float(smooth.mean) == pytest.approx(0.1**2 / (2 / 9) / 4)


@pytest.mark.parametrize("num_boxes", [1, 3])
def test_boxes_are_averaged_over_all_regions(num_boxes: int) -> None:
    """One tenth of the width is one standard deviation."""
    expected = {"l1": 1.0, "smooth_l1": 0.5, "giou": 10 * (1 - 9 / 11)}
    losses = {"l1": TwoStageLoss(), "smooth_l1": HTC_LOSS, "giou": CASCADE_LOSS}
    for kind, loss in losses.items():
        classes, boxes = box_terms(stage(num_boxes), loss)
        assert float(classes.mean) == pytest.approx(2 * LN2)  # four classes, two regions: log 4 each
        assert float(boxes.mean) == pytest.approx(expected[kind] / 2, rel=1e-5)


def test_only_the_changes_of_the_own_class_count() -> None:
    deltas = torch.zeros(2, 3, 4)
    deltas[0, 1, 0] = 1.0  # just what is wanted
    deltas[0, 0] = deltas[0, 2] = 5.0
    deltas[1] = 7.0  # background
    for loss in (TwoStageLoss(), HTC_LOSS, CASCADE_LOSS):
        assert float(box_terms(stage(3, deltas), loss)[1].total) == pytest.approx(0, abs=1e-5)


def test_masks_are_averaged_over_the_cells_of_the_own_class() -> None:
    masks = torch.full((2, 3, 2, 2), 50.0)
    masks[0, 2] = 0.0
    masks[1, 0] = -50.0
    targets = torch.zeros(2, 2, 2, dtype=torch.bool)
    targets[0] = True
    term = mask_term(MaskStage(masks, torch.tensor([2, 0]), targets))
    assert float(term.mean) == pytest.approx(LN2 / 2)
    nothing = mask_term(MaskStage(masks[:0], torch.zeros(0, dtype=torch.int64), targets[:0]))
    assert float(nothing.mean) == 0


def test_the_semantic_branch_compares_the_nearest_pixel_of_each_cell() -> None:
    """Ignored cells count in the divisor, as in the official code."""
    maps = torch.full((1, 16, 16), 255)
    maps[0, 0, 0], maps[0, 0, 8] = 1, 0
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 1, 0, 0] = 100.0  # the first cell is right, the second open
    assert float(semantic_term(logits, maps).mean) == pytest.approx(LN2 / 4)


def test_proposals_do_not_learn_by_giou() -> None:
    with pytest.raises(ValueError, match="giou"):
        replace(TwoStageLoss(), rpn_box="giou")
