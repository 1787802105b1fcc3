"""Assignments by hand and, for the largest overlap, by a loop over anchors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from imglish.ops import assignment
from imglish.ops.anchors import square_levels
from imglish.ops.assignment import (
    BACKGROUND,
    UNCOUNTED,
    Assignment,
    MaxOverlapRule,
    assign_atss,
    assign_max_overlap,
)
from imglish.ops.box_coding import box_centers
from imglish.ops.boxes import pairwise_overlaps
from tests.ops.largest_tensor import LargestTensor
from tests.ops.test_boxes import boxes

NONE = torch.zeros(0, 4)
SQUARE = torch.tensor([[0.0, 0, 10, 10]])


def part(right: float) -> list[float]:
    """A box in `SQUARE` whose IoU with it is right / 10."""
    return [0, 0, right, 10]


def test_limits_part_objects_background_and_what_does_not_count() -> None:
    anchors = torch.tensor([part(9), part(7), part(5), part(3), part(2.9)])
    found = assign_max_overlap(anchors, SQUARE, MaxOverlapRule(positive=0.7, negative=0.3))
    assert found.targets.tolist() == [0, 0, UNCOUNTED, UNCOUNTED, BACKGROUND]
    assert found.overlaps.tolist() == pytest.approx([0.9, 0.7, 0.5, 0.3, 0.29])
    assert found.positive.tolist() == [True, True, False, False, False]
    assert found.negative.tolist() == [False] * 4 + [True]


def test_the_best_anchors_of_a_box_are_its_own_if_they_are_good_enough() -> None:
    anchors = torch.tensor([part(4), part(4), part(3)])
    plain = MaxOverlapRule(positive=0.7, negative=0.5)
    assert assign_max_overlap(anchors, SQUARE, plain).targets.tolist() == [-1] * 3
    shared = replace(plain, low_quality=0.4)
    assert assign_max_overlap(anchors, SQUARE, shared).targets.tolist() == [0, 0, -1]
    first = replace(shared, share_best=False)
    assert assign_max_overlap(anchors, SQUARE, first).targets.tolist() == [0, -1, -1]
    asks = replace(plain, low_quality=0.41)
    assert assign_max_overlap(anchors, SQUARE, asks).targets.tolist() == [-1] * 3


def test_of_several_boxes_whose_best_anchor_it_is_the_last_gets_it() -> None:
    wanted = torch.tensor([part(10), part(9), part(8)])
    rule = MaxOverlapRule(positive=0.95, negative=0.3, low_quality=0.3)
    assert assign_max_overlap(SQUARE, wanted, rule).targets.tolist() == [2]


def test_anchors_in_a_crowd_do_not_count() -> None:
    anchors = torch.tensor([part(9), [20.0, 0, 30, 10], [40.0, 0, 50, 10]])
    crowd = torch.tensor([[0.0, 0, 26, 10]])
    rule = MaxOverlapRule(positive=0.7, negative=0.3, low_quality=0.3, crowd=0.5)
    assert assign_max_overlap(anchors, SQUARE, rule, crowd).targets.tolist() == [-2, -2, -1]
    assert assign_max_overlap(anchors, NONE, rule, crowd).targets.tolist() == [-2, -2, -1]
    blind = MaxOverlapRule(positive=0.7, negative=0.3)
    assert assign_max_overlap(anchors, SQUARE, blind, crowd).targets.tolist() == [0, -1, -1]


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_overlap_anchor_by_anchor(seed: int) -> None:
    anchors, wanted = boxes(80, seed), boxes(6, seed + 50)
    rule = MaxOverlapRule(positive=0.5, negative=0.4, low_quality=0.1)
    overlaps = pairwise_overlaps(anchors, wanted)
    expected = []
    for row in overlaps:
        best = float(row.max())
        target = UNCOUNTED if best >= rule.negative else BACKGROUND
        expected.append(int(row.argmax()) if best >= rule.positive else target)
    for number, column in enumerate(overlaps.T):
        if column.max() >= 0.1:
            for anchor in (column == column.max()).nonzero()[:, 0].tolist():
                expected[anchor] = number
    assert assign_max_overlap(anchors, wanted, rule).targets.tolist() == expected


def atss_by_loops(levels: list[Tensor], wanted: Tensor, num_candidates: int) -> list[int]:
    """Section 3.2 and algorithm 1 of arXiv 1912.02424."""
    anchors = torch.cat(levels)
    targets, best = [BACKGROUND] * len(anchors), [0.0] * len(anchors)
    for number, box in enumerate(wanted):
        center, start = box_centers(box), 0
        candidates: list[int] = []
        for level in levels:
            far = (box_centers(level) - center).norm(dim=1)
            near = far.argsort()[:num_candidates]
            candidates += (start + near).tolist()
            start += len(level)
        shared = pairwise_overlaps(anchors[candidates], box[None])[:, 0]
        limit = shared.mean() + shared.std()
        for anchor, overlap in zip(candidates, shared, strict=True):
            x, y = box_centers(anchors[anchor])
            inside = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
            if overlap >= limit and inside and overlap > best[anchor]:
                targets[anchor], best[anchor] = number, float(overlap)
    return targets


@pytest.mark.parametrize("seed", range(5))
def test_atss_box_by_box(seed: int) -> None:
    levels = list(square_levels({8: (8, 8), 16: (4, 4), 32: (2, 2)}, 4).anchors)
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(7, 2, generator=g) * 40
    wanted = torch.cat([corner, corner + 4 + torch.rand(7, 2, generator=g) * 30], dim=1)
    found = assign_atss(levels, wanted, num_candidates=5)
    assert found.targets.tolist() == atss_by_loops(levels, wanted, 5)
    anchors, positive = torch.cat(levels), found.positive
    assert positive.any()
    own = pairwise_overlaps(anchors, wanted)[positive, found.targets[positive]]
    assert torch.equal(found.overlaps[positive], own) and not found.overlaps[~positive].any()


def test_atss_leaves_crowds_out_where_asked() -> None:
    levels = list(square_levels({8: (4, 4)}, 2).anchors)
    crowd = torch.tensor([[-20.0, -20, 10, 60]])  # over the left column, and half of the next
    found = assign_atss(levels, NONE, crowd=0.5, crowd_boxes=crowd).targets.view(4, 4)
    assert found.tolist() == [[-2, -2, -1, -1]] * 4
    assert (assign_atss(levels, NONE, crowd_boxes=crowd).targets == BACKGROUND).all()
    near = assign_atss(levels, torch.tensor([[0.0, 0, 30, 30]]), crowd=0.5, crowd_boxes=crowd).targets
    assert (near.view(4, 4)[:, :2] == UNCOUNTED).all() and (near >= 0).any()


def crowded(count: int, side: float, seed: int = 0) -> Tensor:
    """Large boxes in a picture of that side."""
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=g) * side / 2
    return torch.cat([corner, corner + (0.1 + 0.4 * torch.rand(count, 2, generator=g)) * side], dim=1)


LARGE = square_levels({8: (64, 64), 16: (32, 32), 32: (16, 16)}, 8).anchors
RULES = {
    "proposals": MaxOverlapRule(positive=0.7, negative=0.3, low_quality=0.3, crowd=0.5),
    "first": MaxOverlapRule(positive=0.7, negative=0.3, low_quality=0.3, share_best=False),
    "regions": MaxOverlapRule(positive=0.5, negative=0.5),
    "atss": None,
}


@pytest.mark.parametrize("name", RULES)
def test_500_objects_of_a_picture_are_compared_some_at_a_time(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, rule = crowded(500, 512), RULES[name]
    wanted[300:310] = wanted[:10]  # equal ones, in another part
    crowd = crowded(300, 300, seed=1)

    def assign() -> Assignment:
        if rule is not None:
            return assign_max_overlap(torch.cat(LARGE), wanted, rule, crowd)
        return assign_atss(LARGE, wanted, crowd=0.9, crowd_boxes=crowd)

    with LargestTensor() as at_once:
        expected = assign()  # 2.7 million pairs
    monkeypatch.setattr(assignment, "_PAIRS_AT_ONCE", 2**17)
    with LargestTensor() as in_parts:
        found = assign()
    assert torch.equal(found.targets, expected.targets) and torch.equal(found.overlaps, expected.overlaps)
    assert found.positive.sum() > 50 and len(found.targets.unique()) > 40
    # The two sides of every pair, or its number, both of 8 bytes.
    assert in_parts.bytes <= 8 * 2**17 < at_once.bytes <= 8 * 2**21


@pytest.mark.parametrize("anchors", [NONE, SQUARE])
def test_without_boxes_or_anchors_all_is_background(anchors: Tensor) -> None:
    rule = MaxOverlapRule(positive=0.7, negative=0.3, low_quality=0.3)
    for found in (assign_max_overlap(anchors, NONE, rule), assign_atss([anchors], NONE)):
        assert found.targets.tolist() == [BACKGROUND] * len(anchors)
        assert found.overlaps.tolist() == [0.0] * len(anchors)
    assert assign_max_overlap(NONE, SQUARE, rule).targets.shape == (0,)
    assert assign_atss([NONE, NONE], SQUARE).targets.shape == (0,)


def test_a_single_anchor_is_its_own_limit() -> None:
    anchor = torch.tensor([[0.0, 0, 8, 8]])
    assert assign_atss([anchor], SQUARE).targets.tolist() == [0]


@pytest.mark.parametrize("limits", [(0.3, 0.5), (1.2, 0.5), (0.5, -0.1)])
def test_limits_out_of_order_are_refused(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"positive|overlaps"):
        MaxOverlapRule(positive=limits[0], negative=limits[1])
