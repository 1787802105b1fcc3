"""From a one-stage detector's predictions to boxes, scores and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from imglish.ops.box_coding import box_centers, decode_boxes, decode_distances
from imglish.ops.nms import NmsSettings, classwise_nms
from imglish.ops.precision import at_least_fp32
from imglish.structures.dense_boxes import ATSS_STDS, AtssPredictions, DensePredictions
from imglish.structures.instances import Detections


@dataclass(frozen=True, kw_only=True, slots=True)
class DenseSelection:
    """Which boxes are kept, as in the official configs of ATSS and GFL.

    Args:
        min_score: Pairs of cell and class must have more, before ATSS's centerness is counted in.
        before_nms: The best pairs of a level.
        nms: Suppression among boxes of a class.
        max_boxes: Boxes of a picture.

    Raises:
        ValueError: A number is less than 1.
    """

    min_score: float = 0.05
    before_nms: int = 1000
    nms: NmsSettings = field(default_factory=lambda: NmsSettings(max_overlap=0.6))
    max_boxes: int = 100

    def __post_init__(self) -> None:
        if min(self.before_nms, self.max_boxes) < 1:
            raise ValueError(
                f"before_nms and max_boxes must be at least 1; got {self.before_nms} and {self.max_boxes}"
            )


@torch.no_grad()
def select_boxes(
    predictions: DensePredictions, sizes: Sequence[tuple[int, int]], selection: DenseSelection
) -> list[Detections]:
    """The surest boxes of each picture.

    Args:
        predictions: Of ATSS or GFL.
        sizes: (height, width) of each picture without padding, onto whose border boxes are cut.
        selection: Which are kept.

    Returns:
        Boxes of each picture in pixels of the batch's pictures, without masks.
    """
    return [_select_one(predictions, row, size, selection) for row, size in enumerate(sizes)]


def _select_one(
    predictions: DensePredictions, row: int, size: tuple[int, int], selection: DenseSelection
) -> Detections:
    boxes, scores, labels = [], [], []
    for level, logits in enumerate(predictions.classes):
        shares = at_least_fp32(logits[row]).sigmoid()
        pairs = (shares > selection.min_score).flatten().nonzero()[:, 0]
        own, order = shares.flatten()[pairs].sort(descending=True, stable=True)
        own, pairs = own[: selection.before_nms], pairs[order[: selection.before_nms]]
        cells = pairs // shares.shape[1]
        boxes.append(decode_cells(predictions, level, row, cells, size))
        scores.append(own * cell_factors(predictions, level, row, cells))
        labels.append(pairs % shares.shape[1])
    found, sure, named = torch.cat(boxes), torch.cat(scores), torch.cat(labels)
    kept = classwise_nms(found, sure, named, selection.nms, selection.max_boxes)
    return Detections(boxes=found[kept.indices], scores=kept.scores, labels=named[kept.indices])


def decode_cells(
    predictions: DensePredictions, level: int, row: int, cells: Tensor, size: tuple[int, int]
) -> Tensor:
    """Boxes (K, 4) of cells int64 (K,) of a level, cut at the border of the picture ``row`` of that size."""
    anchors = predictions.levels.anchors[level][cells]
    if isinstance(predictions, AtssPredictions):
        deltas = at_least_fp32(predictions.deltas[level][row, cells])
        return decode_boxes(anchors, deltas, stds=ATSS_STDS, size=size)
    distances = at_least_fp32(predictions.distances[level][row, cells]) * predictions.levels.strides[level]
    return decode_distances(box_centers(anchors), distances, size)


def cell_factors(predictions: DensePredictions, level: int, row: int, cells: Tensor) -> Tensor | float:
    """What scores of cells (K,) of a level are multiplied by, (K,)."""
    if isinstance(predictions, AtssPredictions):
        return at_least_fp32(predictions.centerness[level][row, cells]).sigmoid()
    return 1.0
