"""Sparse R-CNN's loss (arXiv 2011.12450, section 3.2): match boxes with objects, compare them, at each stage.

Weights of costs and terms are the official config's; it and the paper agree. Every term is a sum over the
boxes of a batch, or over the matched ones, to be divided by how many are matched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.losses.boxes import summed_giou, summed_l1
from imglish.losses.focal import summed_focal
from imglish.ops.boxes import pairwise_overlaps
from imglish.ops.matching import assign
from imglish.ops.precision import at_least_fp32
from imglish.structures.box_set import BoxSet
from imglish.structures.instances import Instances

Pairs = tuple[Tensor, Tensor]  # numbers of boxes, ascending, and of their objects, int64


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseRcnnLoss:
    """Weights and numbers of the loss, as published.

    Args:
        class_weight: Of the focal loss, and of its cost in matching.
        side_weight: The same of the absolute differences of sides, in shares of the picture.
        overlap_weight: The same of GIoU.
        alpha: Of the focal loss.
        gamma: Of the focal loss.
    """

    class_weight: float = 2.0
    side_weight: float = 5.0
    overlap_weight: float = 2.0
    alpha: float = 0.25
    gamma: float = 2.0


class BoxSetTerms(NamedTuple):
    """Weighted terms of one stage or of several, each a sum.

    Args:
        classes: Focal loss of all boxes; those without an object are background.
        sides: Differences of the sides of matched boxes.
        overlaps: One minus GIoU of matched boxes.
    """

    classes: Tensor
    sides: Tensor
    overlaps: Tensor


def findable(objects: Instances) -> Instances:
    """The objects that boxes are matched with: single ones with an area.

    The official code leaves crowd regions out here, so that a box on one is background.
    """
    solid = ((objects.boxes[:, 2:] - objects.boxes[:, :2]) > 0).all(dim=1)
    return objects.take(solid & ~objects.crowd)


def matching_costs(
    classes: Tensor, boxes: Tensor, objects: Instances, size: tuple[int, int], loss: SparseRcnnLoss
) -> Tensor:
    """What it would cost to give each object to each box of one picture.

    Args:
        classes: Logits (Q, num_classes).
        boxes: (Q, 4) in pixels.
        objects: G objects of the picture, none of them a crowd.
        size: (height, width) of the picture without padding.
        loss: Weights.

    Returns:
        (Q, G): of classes by how much focal loss changes where the object's is right instead of wrong.
    """
    logits, wanted = at_least_fp32(classes), objects.boxes.to(boxes.dtype)
    shares = logits.sigmoid()
    right = loss.alpha * (1 - shares).pow(loss.gamma) * F.softplus(-logits)
    wrong = (1 - loss.alpha) * shares.pow(loss.gamma) * F.softplus(logits)
    sides = _picture_sides(boxes, size)
    differences = torch.cdist(boxes / sides, wanted / sides, p=1)
    return (
        loss.class_weight * (right - wrong)[:, objects.labels]
        + loss.side_weight * differences
        - loss.overlap_weight * pairwise_overlaps(boxes, wanted, "giou")
    )


@torch.no_grad()
def match(
    found: BoxSet, objects: Sequence[Instances], sizes: Sequence[tuple[int, int]], loss: SparseRcnnLoss
) -> list[Pairs]:
    """The cheapest pairs of each picture: every object has a box, as long as there are boxes.

    Args:
        found: Of one stage.
        objects: Of each picture, as `findable` gives them.
        sizes: (height, width) of each picture without padding.
        loss: Weights.
    """
    pairs = []
    for classes, boxes, own, size in zip(found.classes, found.boxes, objects, sizes, strict=True):
        queries, numbers = assign(matching_costs(classes, boxes, own, size, loss))
        pairs.append((queries.to(boxes.device), numbers.to(boxes.device)))
    return pairs


def num_matched(objects: Sequence[Instances], num_proposals: int) -> int:
    """How many boxes of a batch each stage matches, known before anything is predicted."""
    return sum(min(len(findable(own)), num_proposals) for own in objects)


def sparse_rcnn_terms(
    stages: Sequence[BoxSet],
    objects: Sequence[Instances],
    sizes: Sequence[tuple[int, int]],
    loss: SparseRcnnLoss,
) -> BoxSetTerms:
    """The terms of all stages, added up; divide them by `num_matched`.

    Each stage is matched for itself.

    Args:
        stages: What the detector says after each.
        objects: Of each picture; crowds and boxes without an area are left out here.
        sizes: (height, width) of each picture without padding.
        loss: Weights and numbers.
    """
    single = [findable(own) for own in objects]
    with torch.autocast(stages[0].boxes.device.type, enabled=False):
        terms = [_stage_terms(found, single, sizes, loss) for found in stages]
    return BoxSetTerms(*(torch.stack(part).sum() for part in zip(*terms, strict=True)))


def _stage_terms(
    found: BoxSet, objects: Sequence[Instances], sizes: Sequence[tuple[int, int]], loss: SparseRcnnLoss
) -> BoxSetTerms:
    pairs = match(found, objects, sizes, loss)
    labels = torch.full(found.classes.shape[:2], -1, device=found.classes.device)
    chosen, wanted, sides = [], [], []
    for row, (queries, numbers) in enumerate(pairs):
        labels[row, queries] = objects[row].labels[numbers]
        boxes = found.boxes[row, queries]
        chosen.append(boxes)
        wanted.append(objects[row].boxes[numbers].to(boxes.dtype))
        sides.append(_picture_sides(boxes, sizes[row]).expand_as(boxes))
    predicted, true, side = torch.cat(chosen), torch.cat(wanted), torch.cat(sides)
    classes = summed_focal(found.classes.flatten(0, 1), labels.flatten(), alpha=loss.alpha, gamma=loss.gamma)
    return BoxSetTerms(
        loss.class_weight * classes,
        loss.side_weight * summed_l1(predicted / side, true / side),
        loss.overlap_weight * summed_giou(predicted, true),
    )


def _picture_sides(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """What boxes (..., 4) are divided by to be shares of a picture of (height, width): (4,)."""
    height, width = size
    return boxes.new_tensor([width, height, width, height])
