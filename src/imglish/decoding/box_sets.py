"""From a set of boxes to detections: no two are suppressed, as a set has learned to name an object once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from imglish.decoding.found_objects import FoundObjects, in_picture
from imglish.ops.precision import at_least_fp32
from imglish.structures.batches import PictureView
from imglish.structures.box_set import BoxSet
from imglish.structures.instances import Detections

Size = tuple[int, int]


@torch.no_grad()
def surest_boxes(found: BoxSet, max_boxes: int) -> list[Detections]:
    """The surest pairs of box and class of each picture.

    As the official code has it, a box may be given with several classes, no score is too small, and boxes are
    not cut off at the picture's border.

    Args:
        found: Of the last stage.
        max_boxes: Of each picture; fewer where there are not so many pairs.

    Returns:
        Of each picture in pixels of the batch's pictures, without masks.
    """
    detections = []
    for logits, boxes in zip(found.classes, found.boxes, strict=True):
        scores = at_least_fp32(logits).sigmoid().flatten()
        best = scores.topk(min(max_boxes, len(scores)))
        rows, labels = best.indices // logits.shape[1], best.indices % logits.shape[1]
        detections.append(Detections(boxes=boxes[rows].float(), scores=best.values, labels=labels))
    return detections


@torch.no_grad()
def find_by_set(
    predict: Callable[[Tensor, Sequence[Size]], Sequence[BoxSet]],
    view: PictureView,
    size: Size,
    max_boxes: int,
) -> FoundObjects:
    """The objects of one picture with Sparse R-CNN.

    Args:
        predict: Maps pictures (B, 3, H, W) of these (height, width) to what is said after each stage.
        view: The picture as it is shown.
        size: (height, width) of the stored picture.
        max_boxes: Boxes that are given back, the surest ones.
    """
    (found,) = surest_boxes(predict(view.images, [view.inside])[-1], max_boxes)
    return FoundObjects(in_picture(found, view, size))
