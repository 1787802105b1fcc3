"""Features of boxes, read off maps bilinearly (RoIAlign, arXiv 1703.06870)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align as torchvision_roi_align

from imglish.ops.precision import at_least_fp32

FINEST_SCALE = 56.0  # boxes with sides below twice as many pixels are read off the finest level


def roi_align(
    features: Tensor,
    boxes: Tensor,
    pictures: Tensor,
    *,
    size: int,
    scale: float,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """Average features in the cells of a grid over each box.

    Args:
        features: (B, C, H, W).
        boxes: (R, 4) in pixels of the picture.
        pictures: int64 (R,), the picture of each box in the batch.
        size: Cells of a row and of a column.
        scale: Of the map beside the picture: 1 / stride.
        sampling_ratio: Points of a cell in each direction; 0 takes one for each cell of the map, rounded up.
        aligned: True puts pixel centres at (i + 0.5), as every official config has it; False at i, and boxes
            are at least one cell of the map wide and high, as in old code.

    Returns:
        (R, C, size, size), in the number format of ``features``.
    """
    rois = torch.cat([pictures[:, None].to(boxes.dtype), boxes], dim=1)
    exact = at_least_fp32(features)  # torchvision has no kernels for bf16 on CPUs
    found: Tensor = torchvision_roi_align(
        exact, rois.to(exact.dtype), size, scale, sampling_ratio or -1, aligned=aligned
    )
    return found.to(features.dtype)


def roi_levels(boxes: Tensor, num_levels: int, *, finest_scale: float = FINEST_SCALE) -> Tensor:
    """The level that each box is read off: the larger, the coarser (arXiv 1612.03144, equation 1).

    Args:
        boxes: (R, 4) in pixels.
        num_levels: Levels there are.
        finest_scale: Side of a square box up to twice which level 0 is used; each doubling is a level more.

    Returns:
        int64 (R,), from 0 for the finest.
    """
    sides = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=0).sqrt()
    return (sides / finest_scale + 1e-6).log2().floor().clamp(0, num_levels - 1).long()


def pyramid_roi_align(
    maps: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Tensor,
    pictures: Tensor,
    *,
    size: int,
    sampling_ratio: int = 0,
    finest_scale: float = FINEST_SCALE,
) -> Tensor:
    """Read each box off the level of a pyramid that suits its size.

    Args:
        maps: (B, C, H / stride, W / stride), fine to coarse.
        strides: Of the maps.
        boxes: (R, 4) in pixels of the picture.
        pictures: int64 (R,), the picture of each box in the batch.
        size: Cells of a row and of a column.
        sampling_ratio: See `roi_align`.
        finest_scale: See `roi_levels`.

    Returns:
        (R, C, size, size).
    """
    levels = roi_levels(boxes, len(maps), finest_scale=finest_scale)
    places, parts = [], []
    for level, (features, stride) in enumerate(zip(maps, strides, strict=True)):
        place = (levels == level).nonzero()[:, 0]
        places.append(place)
        parts.append(
            roi_align(
                features,
                boxes[place],
                pictures[place],
                size=size,
                scale=1 / stride,
                sampling_ratio=sampling_ratio,
            )
        )
    # Narrowed to what it is long already: an exported graph knows no other way.
    order = torch.cat(places).argsort().narrow(0, 0, len(boxes))
    return torch.cat(parts)[order]
