"""From what a two-stage detector says to boxes and masks in a picture as it is stored.

One view of a picture is the detector's own answer; several, of other sizes or flipped, are merged as the
official HTC++ does it (adapter FACTS, section 5): of every view the boxes of some areas, suppressed together,
and the mean of the masks that all views draw in the boxes that are left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from imglish.ops.box_selection import BoxSelection, select
from imglish.ops.boxes import box_areas, flip_boxes, scale_boxes
from imglish.ops.mask_regions import paste_masks
from imglish.structures.batches import PictureView
from imglish.structures.instances import Detections
from imglish.structures.two_stage import Candidates, RawDetections

Areas = tuple[float, float]  # of boxes in the stored picture, in pixels: above the first, up to the second
ALL_AREAS: Areas = (-math.inf, math.inf)
_SMALL, _MEDIUM = 32.0**2, 96.0**2
# The published views, each also flipped: short sides in pixels, and which areas are taken of them.
HTC_VIEWS: dict[int, Areas] = {
    600: (_MEDIUM, math.inf),
    800: (_MEDIUM, math.inf),
    1000: (_SMALL, math.inf),
    1200: (-math.inf, _MEDIUM),
    1400: (-math.inf, _MEDIUM),
    1600: (-math.inf, _MEDIUM),
}


class ViewDetector(Protocol):
    """What a detector must do for several views; `models.detectors.two_stage` does."""

    def scene(self, images: Tensor) -> Any:
        """What the heads read of pictures (B, 3, H, W)."""
        ...

    def candidates(self, scene: Any, sizes: Sequence[tuple[int, int]]) -> list[Candidates]:
        """Boxes of each picture with scores of all classes, before suppression."""
        ...

    def mask_probabilities(
        self, scene: Any, boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> list[Tensor] | None:
        """Masks (N, M, M) in [0, 1] of given boxes (N, 4) of given classes; None without mask heads."""
        ...


def fit_to_picture(found: RawDetections, shown_size: tuple[int, int], size: tuple[int, int]) -> RawDetections:
    """The same with boxes in pixels of the stored picture.

    Args:
        found: In pixels of the picture as it was shown.
        shown_size: Its (height, width) then, without padding.
        size: (height, width) of the stored picture.
    """
    factors = (size[0] / shown_size[0], size[1] / shown_size[1])
    return found._replace(boxes=scale_boxes(found.boxes, factors))


def to_detections(
    found: RawDetections, size: tuple[int, int], *, with_masks: bool = True, threshold: float = 0.5
) -> Detections:
    """Boxes, scores and labels with all masks of a picture at once.

    Where N masks of the stored picture would be too many, leave them out here and take them some at a time
    of `ops.mask_regions.paste_masks`.

    Args:
        found: In pixels of the stored picture.
        size: Its (height, width).
        with_masks: False leaves masks out; None is their place too where the detector has none.
        threshold: Pixels at least so probable are inside.
    """
    masks = None
    if with_masks and found.masks is not None:
        none = torch.zeros(0, *size, dtype=torch.bool, device=found.boxes.device)
        masks = torch.cat([none, *paste_masks(found.masks, found.boxes, size, threshold)])
    return Detections(boxes=found.boxes, scores=found.scores, labels=found.labels, masks=masks)


@torch.no_grad()
def detect_views(
    detector: ViewDetector,
    views: Sequence[PictureView],
    size: tuple[int, int],
    selection: BoxSelection,
    areas: Sequence[Areas] = (),
) -> RawDetections:
    """Find the objects of one picture in several views of it.

    Features are computed twice, for boxes and for masks, so that those of one view are kept at a time.

    Args:
        detector: In evaluation mode.
        views: Each of the one picture.
        size: (height, width) of the stored picture.
        selection: Which boxes are kept of all views together.
        areas: Which boxes each view gives; empty takes all of every view.

    Returns:
        In pixels of the stored picture.

    Raises:
        ValueError: There is no view, one is of several pictures, or not each has its areas.
    """
    if not views or any(len(view.images) != 1 for view in views):
        raise ValueError("several views are merged of one picture at a time, one view at least")
    if areas and len(areas) != len(views):
        raise ValueError(f"{len(views)} views have {len(areas)} ranges of areas")
    parts = []
    for view, limits in zip(views, areas or [ALL_AREAS] * len(views), strict=True):
        (candidates,) = detector.candidates(detector.scene(view.images), [view.inside])
        parts.append(_from_view(candidates, view, size, limits))
    kept = select(Candidates(*(torch.cat(column) for column in zip(*parts, strict=True))), selection)
    masks = _mean_masks(detector, views, size, kept.boxes, kept.labels)
    return RawDetections(kept.boxes, kept.scores, kept.labels, masks)


def _from_view(candidates: Candidates, view: PictureView, size: tuple[int, int], areas: Areas) -> Candidates:
    """Candidates in pixels of the stored picture; those of other areas have scores below all."""
    boxes = candidates.boxes
    if view.flipped:
        boxes = flip_boxes(boxes, view.inside[1])
    boxes = scale_boxes(boxes, (size[0] / view.inside[0], size[1] / view.inside[1]))
    area = box_areas(boxes)
    return Candidates(boxes, candidates.scores.where((area > areas[0]) & (area <= areas[1]), -1.0))


def _mean_masks(
    detector: ViewDetector,
    views: Sequence[PictureView],
    size: tuple[int, int],
    boxes: Tensor,
    labels: Tensor,
) -> Tensor | None:
    """Mean over views of the masks (N, M, M) in boxes of the stored picture."""
    total: Tensor | None = None
    for view in views:
        own = scale_boxes(boxes, (view.inside[0] / size[0], view.inside[1] / size[1]))
        if view.flipped:
            own = flip_boxes(own, view.inside[1])
        found = detector.mask_probabilities(detector.scene(view.images), [own], [labels])
        if found is None:
            return None
        masks = found[0].flip(-1) if view.flipped else found[0]
        total = masks if total is None else total + masks
    return None if total is None else total / len(views)
