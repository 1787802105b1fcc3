"""Masks seen through boxes: cut out to train on, and pasted back into a picture."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.ops.boxes import clip_boxes
from imglish.ops.roi_align import roi_align

_OBJECTS_AT_ONCE = 16  # masks of a picture that are turned into numbers together
_MASKS_AT_ONCE = 32  # masks that are pasted together, or fewer
_PIXELS_AT_ONCE = 2**26  # of all of them


def crop_masks(masks: Tensor, objects: Tensor, boxes: Tensor, size: int) -> Tensor:
    """What masks look like on a grid over boxes.

    Args:
        masks: bool (G, H, W).
        objects: int64 (P,), the mask of each box.
        boxes: (P, 4) in pixels; cut at the picture's border.
        size: Cells of a row and of a column.

    Returns:
        bool (P, size, size), True where at least half of a cell is inside.
    """
    boxes = clip_boxes(boxes, (masks.shape[1], masks.shape[2]))
    cropped = torch.zeros(len(boxes), size, size, dtype=torch.bool, device=masks.device)
    for start in range(0, len(masks), _OBJECTS_AT_ONCE):
        place = ((objects >= start) & (objects < start + _OBJECTS_AT_ONCE)).nonzero()[:, 0]
        if len(place) == 0:
            continue
        some = masks[start : start + _OBJECTS_AT_ONCE, None].float()
        shares = roi_align(some, boxes[place], objects[place] - start, size=size, scale=1.0)
        cropped[place] = shares[:, 0] >= 0.5
    return cropped


def paste_mask(mask: Tensor, box: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Enlarge the mask of a box to its place in the picture.

    Args:
        mask: Probabilities (M, M) of the cells of a grid over the box.
        box: (4,) in pixels; may reach beyond the picture.
        size: (height, width) of the picture.
        threshold: Pixels whose probability, read bilinearly at their centre, is at least this are inside.

    Returns:
        bool (height, width).
    """
    whole = torch.zeros(size, dtype=torch.bool, device=mask.device)
    left, top, right, bottom = box.tolist()
    if not (right > left and bottom > top):
        return whole
    # A pixel farther out is inside for no mask: beyond the outermost cells it fades to zero.
    first_x, last_x = max(0, int(left) - 1), min(size[1], int(right) + 2)
    first_y, last_y = max(0, int(top) - 1), min(size[0], int(bottom) + 2)
    if first_x >= last_x or first_y >= last_y:
        return whole
    x = torch.arange(first_x, last_x, device=mask.device) + 0.5
    y = torch.arange(first_y, last_y, device=mask.device) + 0.5
    sides = box[2:] - box[:2]
    x, y = ((axis - box[i]) / sides[i] * 2 - 1 for i, axis in enumerate((x, y)))
    grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)
    found = F.grid_sample(mask[None, None], grid[None].to(mask), mode="bilinear", align_corners=False)[0, 0]
    whole[first_y:last_y, first_x:last_x] = found >= threshold
    return whole


def paste_masks(
    masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5
) -> Iterator[Tensor]:
    """Paste all masks of a picture, some at a time, so that a caller may encode them and let them go.

    Args:
        masks: Probabilities (N, M, M).
        boxes: (N, 4) in pixels of the picture.
        size: (height, width) of the picture.
        threshold: See `paste_mask`.

    Yields:
        bool (n, height, width), together N in their order.
    """
    count = max(1, min(_MASKS_AT_ONCE, _PIXELS_AT_ONCE // max(1, size[0] * size[1])))
    for some, places in zip(masks.split(count), boxes.split(count), strict=True):
        pasted = [paste_mask(mask, box, size, threshold) for mask, box in zip(some, places, strict=True)]
        if pasted:
            yield torch.stack(pasted)
