"""Masks in boxes: cut out and pasted back as a slow reading of each pixel says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from imglish.ops.mask_regions import crop_masks, paste_mask, paste_masks

SIZE = (30, 41)
BOXES = torch.tensor(
    [
        [3.2, 5.1, 25.7, 28.9],
        [-6.0, -3.5, 12.0, 9.0],  # beyond the corner
        [30.0, 20.0, 60.0, 45.5],  # beyond the other
        [7.0, 7.0, 8.0, 8.0],  # one pixel
        [50.0, 3.0, 70.0, 9.0],  # outside
        [5.0, 5.0, 5.0, 9.0],  # without an area
        [0.0, 0.0, 41.0, 30.0],
    ]
)


def slow_paste(mask: Tensor, box: Tensor, threshold: float) -> Tensor:
    """Every pixel of the picture by itself; cells' centres at (i + 0.5) / M of the box, zero around them."""
    side = len(mask)
    whole = torch.zeros(SIZE, dtype=torch.bool)
    left, top, right, bottom = box.double().tolist()
    if right <= left or bottom <= top:
        return whole

    def at(row: int, column: int) -> float:
        return float(mask[row, column]) if 0 <= row < side and 0 <= column < side else 0.0

    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            u = (x + 0.5 - left) / (right - left) * side - 0.5
            v = (y + 0.5 - top) / (bottom - top) * side - 0.5
            i, j = int(v // 1), int(u // 1)
            dv, du = v - i, u - j
            value = (1 - dv) * ((1 - du) * at(i, j) + du * at(i, j + 1))
            value += dv * ((1 - du) * at(i + 1, j) + du * at(i + 1, j + 1))
            whole[y, x] = value >= threshold
    return whole


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_pasted_masks_are_those_of_a_slow_reading(threshold: float) -> None:
    masks = torch.rand(len(BOXES), 5, 5, generator=torch.Generator().manual_seed(0))
    masks[[0, -1]] = 1.0  # inside up to the last pixel
    pasted = torch.cat(list(paste_masks(masks, BOXES, SIZE, threshold)))
    expected = torch.stack([slow_paste(m, b, threshold) for m, b in zip(masks, BOXES, strict=True)])
    # A value at the threshold itself may fall to either side in float32.
    assert (pasted != expected).sum() <= 2
    assert expected[0].any() and expected[1].any() and not pasted[4:6].any()


def test_masks_come_some_at_a_time() -> None:
    masks, boxes = torch.ones(70, 4, 4), BOXES[:1].expand(70, 4)
    parts = list(paste_masks(masks, boxes, SIZE))
    assert [len(part) for part in parts] == [32, 32, 6]
    assert torch.cat(parts).equal(paste_mask(masks[0], boxes[0], SIZE).expand(70, -1, -1))
    assert list(paste_masks(masks[:0], boxes[:0], SIZE)) == []
    large = paste_masks(masks[:6], boxes[:6], (4096, 4096))  # 16 MiB each
    assert [len(part) for part in large] == [4, 2]


def test_cropped_masks_hold_cells_that_are_half_inside() -> None:
    mask = torch.zeros(2, *SIZE, dtype=torch.bool)
    mask[0, 5:15, 8:28] = True
    mask[1] = True
    boxes = torch.tensor([[8.0, 5.0, 28.0, 15.0], [8.0, 5.0, 48.0, 15.0], [0.0, 0.0, 16.0, 10.0]])
    cropped = crop_masks(mask, torch.tensor([0, 0, 0]), boxes, 4)
    assert cropped[0].all()
    # Cut at the border: 33 pixels wide, of which 20 are inside; cells of 8.25.
    assert cropped[1].tolist() == [[True, True, False, False]] * 4
    # Cells of 4 x 2.5: inside from the third column and row on.
    wanted = torch.zeros(4, 4, dtype=torch.bool)
    wanted[2:, 2:] = True
    assert cropped[2].equal(wanted)
    assert crop_masks(mask, torch.tensor([1]), boxes[2:], 4).all()
    stripes = torch.zeros(1, *SIZE, dtype=torch.bool)
    stripes[0, :, ::2] = True  # half of each cell of two pixels
    assert crop_masks(stripes, torch.tensor([0]), torch.tensor([[0.0, 0.0, 8.0, 8.0]]), 4).all()


def test_many_objects_are_cropped_in_any_order() -> None:
    count = 40
    masks = torch.zeros(count, *SIZE, dtype=torch.bool)
    for number in range(count):
        masks[number, :, : number + 1] = True
    objects = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0.0, 0.0, 41.0, 30.0]]).expand(count, 4)
    cropped = crop_masks(masks, objects, boxes, 41)
    assert cropped[:, 0].sum(dim=1).tolist() == (objects + 1).tolist()
    assert crop_masks(masks[:0], objects[:0], boxes[:0], 5).shape == (0, 5, 5)


def test_a_mask_survives_the_way_there_and_back() -> None:
    mask = torch.zeros(1, *SIZE, dtype=torch.bool)
    mask[0, 4:20, 6:30] = True
    mask[0, 10:20, 20:30] = False
    box = torch.tensor([[6.0, 4.0, 30.0, 20.0]])
    cropped = crop_masks(mask, torch.tensor([0]), box, 28)
    back = paste_mask(cropped[0].float(), box[0], SIZE)
    assert ((back & mask[0]).sum() / (back | mask[0]).sum()) > 0.97
