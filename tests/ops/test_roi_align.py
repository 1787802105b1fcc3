"""Features of boxes agree with a slow reading of the same points."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from imglish.ops.roi_align import pyramid_roi_align, roi_align, roi_levels

BOXES = torch.tensor([[3.0, 5.0, 20.0, 29.0], [-4.0, 2.0, 9.0, 40.0], [10.0, 10.0, 11.0, 11.0]])
PICTURES = torch.tensor([0, 1, 1])


def bilinear(features: Tensor, x: float, y: float) -> Tensor:
    """A point (C,) of a map (C, H, W) whose cells' centres are whole numbers; nothing beyond one cell."""
    height, width = features.shape[1:]
    if not (-1 <= x <= width and -1 <= y <= height):
        return features.new_zeros(len(features))
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    dx, dy = x - left, y - top
    upper = features[:, top, left] * (1 - dx) + features[:, top, right] * dx
    lower = features[:, bottom, left] * (1 - dx) + features[:, bottom, right] * dx
    return upper * (1 - dy) + lower * dy


def slow(features: Tensor, size: int, scale: float, ratio: int, *, aligned: bool) -> Tensor:
    found = features.new_zeros(len(BOXES), features.shape[1], size, size)
    shift = 0.5 if aligned else 0.0
    for number, box in enumerate(BOXES.tolist()):
        left, top, right, bottom = (side * scale - shift for side in box)
        width, height = right - left, bottom - top
        if not aligned:
            width, height = max(width, 1.0), max(height, 1.0)
        rows, columns = ratio or math.ceil(height / size), ratio or math.ceil(width / size)
        for i in range(size):
            for j in range(size):
                points = [
                    bilinear(
                        features[int(PICTURES[number])],
                        left + (j + (b + 0.5) / columns) * width / size,
                        top + (i + (a + 0.5) / rows) * height / size,
                    )
                    for a in range(rows)
                    for b in range(columns)
                ]
                found[number, :, i, j] = torch.stack(points).mean(dim=0)
    return found


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
def test_cells_are_means_of_bilinear_points(aligned: bool, ratio: int) -> None:
    features = torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    found = roi_align(features, BOXES, PICTURES, size=3, scale=0.25, sampling_ratio=ratio, aligned=aligned)
    expected = slow(features, 3, 0.25, ratio, aligned=aligned)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)  # float32 sums of another order


def test_the_number_format_stays_and_no_box_gives_nothing() -> None:
    features = torch.randn(2, 3, 12, 10)
    found = roi_align(features.bfloat16(), BOXES, PICTURES, size=2, scale=0.25)
    assert found.dtype == torch.bfloat16
    none = roi_align(features, BOXES[:0], PICTURES[:0], size=2, scale=0.25)
    assert none.shape == (0, 3, 2, 2)


def test_levels_change_where_sides_double() -> None:
    sides = torch.tensor([0.0, 1.0, 111.9, 112.0, 223.9, 224.0, 447.0, 448.0, 5000.0])
    boxes = torch.stack([sides * 0, sides * 0, sides, sides], dim=1)
    assert roi_levels(boxes, 4).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert roi_levels(boxes, 2).tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1]
    wide = torch.tensor([[0.0, 0.0, 448.0, 28.0]])  # as large as a square of 112
    assert roi_levels(wide, 4).tolist() == [1]
    assert roi_levels(wide, 4, finest_scale=28).tolist() == [2]


def test_each_box_is_read_off_its_own_level_in_the_order_given() -> None:
    boxes = torch.tensor([[0.0, 0.0, 120.0, 120.0], [8.0, 8.0, 150.0, 140.0], [0.0, 0.0, 20.0, 20.0]])
    maps = [torch.randn(1, 2, 40, 40), torch.randn(1, 2, 20, 20)]
    picture = torch.zeros(3, dtype=torch.int64)
    for x in maps:
        x.requires_grad_()
    found = pyramid_roi_align(maps, (4, 8), boxes, picture, size=2)
    for number, (level, stride) in enumerate([(1, 8), (1, 8), (0, 4)]):
        alone = roi_align(maps[level], boxes[number : number + 1], picture[:1], size=2, scale=1 / stride)
        torch.testing.assert_close(found[number], alone[0])
    found[2].sum().backward()
    assert maps[0].grad is not None and maps[0].grad.abs().sum() > 0
    assert maps[1].grad is None or not maps[1].grad.any()
