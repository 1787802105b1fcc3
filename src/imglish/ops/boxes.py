"""Boxes and how much of them they share.

A box is absolute (left, top, right, bottom) in pixels; its width is right - left, without the "+ 1" of old
code. All functions keep the number format of what they are given.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

OverlapKind = Literal["iou", "iof", "giou"]
_LEAST_AREA = 1e-6  # what areas are divided by at least: boxes without area share nothing


def box_areas(boxes: Tensor) -> Tensor:
    """Areas (...) of boxes (..., 4); negative where exactly one side is turned inside out."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def pairwise_overlaps(a: Tensor, b: Tensor, kind: OverlapKind = "iou") -> Tensor:
    """Overlap of each box of one set with each of another.

    Args:
        a: (N, 4).
        b: (M, 4).
        kind: ``iou`` intersection over union, in [0, 1]; ``iof`` intersection over the area of ``a``, in
            [0, 1]; ``giou`` generalised IoU (arXiv 1902.09630), in [-1, 1].

    Returns:
        (N, M).
    """
    return _overlaps(a[:, None], b[None], kind)


def paired_overlaps(a: Tensor, b: Tensor, kind: OverlapKind = "iou") -> Tensor:
    """Overlap of each box with its partner: (N, 4) and (N, 4) to (N,); kinds as in `pairwise_overlaps`.

    Raises:
        ValueError: The sets have different sizes.
    """
    if a.shape != b.shape:
        raise ValueError(f"boxes {tuple(a.shape)} have no partners in {tuple(b.shape)}")
    return _overlaps(a, b, kind)


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Move sides of boxes (..., 4) that lie outside a picture of size (height, width) onto its border."""
    height, width = size
    left, top, right, bottom = boxes.unbind(-1)
    return torch.stack(
        [left.clamp(0, width), top.clamp(0, height), right.clamp(0, width), bottom.clamp(0, height)], dim=-1
    )


def flip_boxes(boxes: Tensor, width: int) -> Tensor:
    """Mirror boxes (..., 4) of a picture so many pixels wide from left to right."""
    left, top, right, bottom = boxes.unbind(-1)
    return torch.stack([width - right, top, width - left, bottom], dim=-1)


def scale_boxes(boxes: Tensor, factors: tuple[float, float]) -> Tensor:
    """Stretch boxes (..., 4) with their picture, by factors (of height, of width)."""
    down, right = factors
    return boxes * boxes.new_tensor([right, down, right, down])


def _overlaps(a: Tensor, b: Tensor, kind: OverlapKind) -> Tensor:
    """Overlaps of boxes whose shapes (..., 4) can be broadcast."""
    corner = torch.maximum(a[..., :2], b[..., :2])
    far_corner = torch.minimum(a[..., 2:], b[..., 2:])
    shared = _product((far_corner - corner).clamp(min=0))
    if kind == "iof":
        return shared / box_areas(a).clamp(min=_LEAST_AREA)
    union = (box_areas(a) + box_areas(b) - shared).clamp(min=_LEAST_AREA)
    if kind == "iou":
        return shared / union
    around = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    area_around = _product(around.clamp(min=0)).clamp(min=_LEAST_AREA)
    return shared / union - (area_around - union) / area_around


def _product(sides: Tensor) -> Tensor:
    return sides[..., 0] * sides[..., 1]
