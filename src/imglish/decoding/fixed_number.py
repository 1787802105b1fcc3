"""Boxes as `ops.nms` and detectors choose them, in numbers that do not depend on what is found.

For graphs that are exported: the best so many are taken where others would be cut off, and rows of score
`NOTHING` fill up what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F

from imglish.ops.box_coding import decode_boxes

NOTHING = -1.0  # score of a row that holds nothing; scores are never below 0
_NUM_FILLERS = 2  # torch's exporter takes it for granted that suppression leaves two boxes


def fixed_proposals(
    objectness: Sequence[Tensor],
    deltas: Sequence[Tensor],
    anchors: Sequence[Tensor],
    size: tuple[int, int],
    *,
    before_nms: int,
    kept: int,
    max_overlap: float,
) -> tuple[Tensor, Tensor]:
    """The best boxes that a region proposal network sees in one picture.

    Args:
        objectness: Logits (n,) of each level.
        deltas: Predicted changes (n, 4).
        anchors: (n, 4).
        size: (height, width) of the picture, onto whose border boxes are cut.
        before_nms: The best of a level.
        kept: The best of all levels after suppression.
        max_overlap: IoU above which the less sure one of a level goes.

    Returns:
        Boxes (kept, 4), best first, and which of them are real, bool (kept,).
    """
    scores, boxes, levels = [], [], []
    for level, (logits, changes, own) in enumerate(zip(objectness, deltas, anchors, strict=True)):
        best, places = best_fixed(logits.sigmoid(), before_nms)
        scores.append(best)
        boxes.append(decode_boxes(own[places], changes[places], size=size))
        levels.append(torch.full_like(places, level))
    found, sure = torch.cat(boxes), torch.cat(scores)
    solid = ((found[:, 2:] - found[:, :2]) > 0).all(dim=1) & (sure >= 0)
    found, sure = torch.where(solid[:, None], found, 0.0), torch.where(solid, sure, NOTHING)
    boxes_kept, scores_kept, _ = keep_fixed(found, sure, torch.cat(levels), max_overlap, kept)
    return boxes_kept, scores_kept >= 0


def best_fixed(scores: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The highest of scores (n,) and their places; `NOTHING` at the last place where there are fewer."""
    best = F.pad(scores, (0, number), value=NOTHING).topk(number)
    return best.values, best.indices.clamp(max=scores.shape[0] - 1)


def keep_fixed(
    boxes: Tensor, scores: Tensor, labels: Tensor, max_overlap: float, number: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Hard suppression among boxes of the same label, as `ops.nms.classwise_nms` does it.

    Args:
        boxes: (n, 4), not negative; without an area where the score is `NOTHING`.
        scores: (n,).
        labels: int64 (n,).
        max_overlap: IoU above which the less sure one goes.
        number: How many rows come out.

    Returns:
        Boxes (number, 4), scores (number,), labels int64 (number,), best first; then rows that hold nothing.
    """
    boxes = torch.cat([boxes, boxes.new_zeros(_NUM_FILLERS, 4)])
    scores = torch.cat([scores, scores.new_full((_NUM_FILLERS,), NOTHING)])
    labels = torch.cat([labels, labels.new_zeros(_NUM_FILLERS)])
    apart = labels[:, None].to(boxes.dtype) * (boxes.max() + 1)
    kept = torchvision.ops.nms(boxes + apart, scores, max_overlap)
    filler = torch.full_like(kept[:1], boxes.shape[0] - 1).expand(number)
    rows = torch.cat([kept, filler]).narrow(0, 0, number)
    return boxes[rows], scores[rows], labels[rows]
