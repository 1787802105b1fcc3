"""Overlaps are those of torchvision; moving boxes about is computed by hand."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor

from imglish.ops.boxes import (
    box_areas,
    clip_boxes,
    flip_boxes,
    paired_overlaps,
    pairwise_overlaps,
    scale_boxes,
)


def boxes(number: int, seed: int) -> Tensor:
    corners = torch.rand(number, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1) * 50


def test_overlaps_are_those_of_torchvision() -> None:
    a, b = boxes(30, 1), boxes(20, 2)
    # They agree but for what areas are divided by at least.
    overlaps = torchvision.ops.box_iou(a, b)
    torch.testing.assert_close(pairwise_overlaps(a, b), overlaps, rtol=1e-6, atol=1e-6)
    generalised = torchvision.ops.generalized_box_iou(a, b)
    torch.testing.assert_close(pairwise_overlaps(a, b, "giou"), generalised, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(box_areas(a), torchvision.ops.box_area(a))


def test_iof_is_the_share_of_the_first_box() -> None:
    small, large = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 5, 4], [0.0, 0, 9, 9]])
    assert pairwise_overlaps(small, large, "iof").tolist() == [[0.5, 1.0]]
    assert pairwise_overlaps(large, small, "iof").tolist() == [[2 / 16], [pytest.approx(4 / 81)]]


@pytest.mark.parametrize("kind", ["iou", "iof", "giou"])
def test_partners_overlap_as_in_the_table_of_all(kind: str) -> None:
    a, b = boxes(9, 3), boxes(9, 4)
    table = pairwise_overlaps(a, b, kind)  # type: ignore[arg-type]
    torch.testing.assert_close(paired_overlaps(a, b, kind), table.diagonal())  # type: ignore[arg-type]


def test_boxes_without_partners_are_refused() -> None:
    with pytest.raises(ValueError, match="no partners"):
        paired_overlaps(boxes(2, 1), boxes(1, 1))


@pytest.mark.parametrize("kind", ["iou", "iof", "giou"])
def test_boxes_without_area_share_nothing_and_give_numbers(kind: str) -> None:
    point = torch.tensor([[3.0, 3, 3, 3]])
    shared = pairwise_overlaps(point, torch.cat([point, boxes(3, 1).float()]), kind)  # type: ignore[arg-type]
    assert shared.isfinite().all() and (shared <= 0).all()


def test_nothing_overlaps_with_nothing() -> None:
    none = torch.zeros(0, 4)
    assert pairwise_overlaps(none, boxes(3, 1)).shape == (0, 3)
    assert pairwise_overlaps(boxes(3, 1), none, "giou").shape == (3, 0)
    assert paired_overlaps(none, none).shape == (0,)


def test_sides_outside_go_to_the_border() -> None:
    given = torch.tensor([[-3.0, -1, 5, 9], [2, 3, 30, 4]])
    assert clip_boxes(given, (8, 20)).tolist() == [[0, 0, 5, 8], [2, 3, 20, 4]]


def test_a_mirrored_box_keeps_left_left_of_right() -> None:
    given = torch.tensor([[1.0, 2, 4, 7]])
    assert flip_boxes(given, 10).tolist() == [[6, 2, 9, 7]]
    assert torch.equal(flip_boxes(flip_boxes(given, 10), 10), given)


def test_height_and_width_are_stretched_apart() -> None:
    assert scale_boxes(torch.tensor([[1.0, 2, 4, 7]]), (10, 0.5)).tolist() == [[0.5, 20, 2, 70]]


def test_gradients_of_overlaps_are_right() -> None:
    a, b = boxes(6, 5), boxes(6, 6)
    a.requires_grad_()
    for kind in ("iou", "iof", "giou"):
        assert torch.autograd.gradcheck(lambda x, k=kind: paired_overlaps(x, b, k), a)
