"""Boxes as what a head learns: changes of anchors (arXiv 1311.2524) or distances of sides from a point."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from imglish.ops.boxes import clip_boxes

NO_SHIFT = (0.0, 0.0, 0.0, 0.0)
LARGEST_CHANGE = math.log(1000 / 16)  # of the logarithm of a side, in decoding


def encode_boxes(
    anchors: Tensor, boxes: Tensor, means: Sequence[float] = NO_SHIFT, stds: Sequence[float] = (1, 1, 1, 1)
) -> Tensor:
    """How anchors must change to become boxes.

    Args:
        anchors: (..., 4), with an area.
        boxes: (..., 4), the wanted ones; one without an area has changes that are not finite.
        means: Of the four changes; subtracted.
        stds: Of the four changes; divided by afterwards.

    Returns:
        (..., 4): how far the centre moves right and down in parts of the anchor's sides, and the logarithms
        of how many times as wide and as high it becomes.
    """
    centers, sides = _centers_and_sides(anchors)
    wanted_centers, wanted_sides = _centers_and_sides(boxes)
    changes = torch.cat([(wanted_centers - centers) / sides, (wanted_sides / sides).log()], dim=-1)
    return (changes - changes.new_tensor(means)) / changes.new_tensor(stds)


def decode_boxes(
    anchors: Tensor,
    deltas: Tensor,
    means: Sequence[float] = NO_SHIFT,
    stds: Sequence[float] = (1, 1, 1, 1),
    size: tuple[int, int] | None = None,
    *,
    largest_change: float = LARGEST_CHANGE,
) -> Tensor:
    """Undo `encode_boxes`.

    Args:
        anchors: (..., 4).
        deltas: Changes (..., 4); the shapes are broadcast, so that (N, K, 4) changes of K classes go with
            anchors (N, 1, 4).
        means: As in `encode_boxes`.
        stds: As in `encode_boxes`.
        size: (height, width) of the picture, onto whose border sides outside of it are moved; None leaves
            them.
        largest_change: Logarithms of sides are cut off here, on both sides of zero.

    Returns:
        Boxes (..., 4).
    """
    changes = deltas * deltas.new_tensor(stds) + deltas.new_tensor(means)
    centers, sides = _centers_and_sides(anchors)
    new_centers = centers + sides * changes[..., :2]
    new_sides = sides * changes[..., 2:].clamp(-largest_change, largest_change).exp()
    boxes = torch.cat([new_centers - new_sides / 2, new_centers + new_sides / 2], dim=-1)
    return boxes if size is None else clip_boxes(boxes, size)


def encode_distances(points: Tensor, boxes: Tensor, largest: float | None = None) -> Tensor:
    """How far the sides of boxes are from points.

    Args:
        points: (..., 2) as (x, y).
        boxes: (..., 4).
        largest: Distances are cut off to [0, largest]; None leaves them, negative where the point is outside.

    Returns:
        (..., 4): to the left, top, right, bottom.
    """
    distances = torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], dim=-1)
    return distances if largest is None else distances.clamp(0, largest)


def decode_distances(points: Tensor, distances: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Undo `encode_distances`: points (..., 2) and distances (..., 4) to boxes (..., 4).

    Args:
        points: (..., 2) as (x, y).
        distances: (..., 4) to the left, top, right, bottom.
        size: (height, width) of the picture, onto whose border sides outside of it are moved; None leaves
            them.
    """
    boxes = torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)
    return boxes if size is None else clip_boxes(boxes, size)


def box_centers(boxes: Tensor) -> Tensor:
    """Centres (..., 2) as (x, y) of boxes (..., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _centers_and_sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return box_centers(boxes), boxes[..., 2:] - boxes[..., :2]
