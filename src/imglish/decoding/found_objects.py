"""From the views of a picture to the objects or segments in it, in pixels of the picture as it is stored.

Evaluation scores what is found here, and predictors hand it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from imglish.decoding.boxes import DenseSelection, select_boxes
from imglish.decoding.detections import Areas, ViewDetector, detect_views, fit_to_picture
from imglish.decoding.masks import mask_instances, masks_at_size, panoptic_segments
from imglish.ops.box_selection import BoxSelection
from imglish.ops.boxes import flip_boxes, scale_boxes
from imglish.ops.mask_regions import paste_masks
from imglish.ops.nms import NmsSettings, classwise_nms
from imglish.ops.run_lengths import decode_mask, encode_masks
from imglish.structures.batches import DetectionBatch, PictureView
from imglish.structures.dense_boxes import DensePredictions
from imglish.structures.instances import Detections, EncodedMask, PanopticMap
from imglish.structures.mask_predictions import MaskPredictions
from imglish.structures.two_stage import RawDetections

Size = tuple[int, int]


class RegionDetector(ViewDetector, Protocol):
    """What a two-stage detector must do; `models.detectors.two_stage` does."""

    def __call__(self, images: Tensor, sizes: Sequence[Size]) -> Sequence[RawDetections]:
        """What is found in pictures (B, 3, H, W) of these (height, width) without their padding."""
        ...


class FoundObjects(NamedTuple):
    """The objects of one picture, best first.

    Args:
        objects: Boxes, scores and labels, in pixels of the stored picture; no masks.
        masks: Of each object, as large as the stored picture; None where the detector draws none.
    """

    objects: Detections
    masks: list[EncodedMask] | None = None


class FoundSegments(NamedTuple):
    """The segments of one picture.

    Args:
        segments: As large as the stored picture, with ids from 1 on.
        scores: (S,) in [0, 1].
    """

    segments: PanopticMap
    scores: Tensor


def mask_of_pixels(pixels: NDArray[np.bool_]) -> EncodedMask:
    """A mask bool (H, W) encoded; `mask_pixels` goes back."""
    return encode_masks(torch.from_numpy(pixels)[None])[0]


def shown_pictures(batch: DetectionBatch) -> Iterator[tuple[Size, tuple[PictureView, ...]]]:
    """The (height, width) of each stored picture of a batch, and its views; without any, as it is."""
    if batch.views:
        yield batch.original_sizes[0], batch.views
        return
    for image, shown, size in zip(batch.images, batch.sizes, batch.original_sizes, strict=True):
        yield size, (PictureView(images=image[None], inside=shown),)


@torch.no_grad()
def find_by_regions(
    detector: RegionDetector,
    views: Sequence[PictureView],
    size: Size,
    selection: BoxSelection,
    areas: Sequence[Areas] = (),
    *,
    min_score: float = 0.0,
) -> FoundObjects:
    """The objects of one picture with a two-stage detector.

    Args:
        detector: In evaluation mode.
        views: One as it is, or several, whose boxes are merged and masks averaged.
        size: (height, width) of the stored picture.
        selection: Which boxes are kept of several views; of one the detector's own settings say it.
        areas: Which boxes each of several views gives; empty takes all of every view.
        min_score: Objects that are less sure are left out before their masks are made.
    """
    if len(views) > 1:
        found = detect_views(detector, views, size, selection, areas)
        return encode_found(found, size, min_score)
    (view,) = views
    (found,) = detector(view.images, [view.inside])
    return encode_found(fit_to_picture(found, view.inside, size), size, min_score)


@torch.no_grad()
def find_by_cells(
    predict: Callable[[Tensor], DensePredictions],
    views: Sequence[PictureView],
    size: Size,
    selection: DenseSelection,
) -> FoundObjects:
    """The objects of one picture with ATSS or GFL.

    Args:
        predict: Maps pictures (B, 3, H, W) to predictions for every cell.
        views: One or several, whose boxes are suppressed together.
        size: (height, width) of the stored picture.
        selection: Which boxes are kept, of a view and of several.
    """
    parts = []
    for view in views:
        (found,) = select_boxes(predict(view.images), [view.inside], selection)
        parts.append(in_picture(found, view, size))
    return FoundObjects(join_views(parts, selection.nms, selection.max_boxes))


@torch.no_grad()
def find_instances(
    predict: Callable[[Tensor], Sequence[MaskPredictions]],
    view: PictureView,
    size: Size,
    is_thing: Sequence[bool],
    *,
    max_instances: int = 100,
) -> FoundObjects:
    """The instances of one picture with Mask2Former.

    Args:
        predict: Maps pictures (B, 3, H, W) to the predictions of every layer.
        view: The picture as it is shown.
        size: (height, width) of the stored picture.
        is_thing: For each class whether it is a thing; stuff is left out.
        max_instances: Pairs of query and class that are looked at.
    """
    classes, masks = _whole_masks(predict, view, size)
    things = torch.tensor(is_thing, device=masks.device)
    found = mask_instances(classes, masks, is_thing=things, max_instances=max_instances)
    objects = Detections(boxes=found.boxes, scores=found.scores, labels=found.classes)
    return FoundObjects(objects, encode_masks(found.masks))


@torch.no_grad()
def find_segments(
    predict: Callable[[Tensor], Sequence[MaskPredictions]],
    view: PictureView,
    size: Size,
    is_thing: Sequence[bool],
) -> FoundSegments:
    """The panoptic segments of one picture with Mask2Former; arguments as of `find_instances`."""
    classes, masks = _whole_masks(predict, view, size)
    found = panoptic_segments(classes, masks, is_thing=torch.tensor(is_thing, device=masks.device))
    labels = found.classes.cpu().numpy()
    segments = PanopticMap(
        ids=found.segment_ids.cpu().numpy(),
        segment_ids=np.arange(1, len(labels) + 1),
        labels=labels,
        crowd=np.zeros(len(labels), np.bool_),
    )
    return FoundSegments(segments, found.scores)


def encode_found(found: RawDetections, size: Size, min_score: float = 0.0) -> FoundObjects:
    """Paste the masks of a picture and encode them, some at a time.

    Args:
        found: In pixels of the stored picture.
        size: Its (height, width).
        min_score: What is less sure is left out: a mask as large as a telephone's picture takes a while.
    """
    sure = found.scores >= min_score
    boxes, masks = found.boxes[sure], None
    if found.masks is not None:
        parts = paste_masks(found.masks[sure], boxes, size)
        masks = [mask for part in parts for mask in encode_masks(part)]
    objects = Detections(boxes=boxes, scores=found.scores[sure], labels=found.labels[sure])
    return FoundObjects(objects, masks)


def in_picture(found: Detections, shown: PictureView, size: Size) -> Detections:
    """Boxes of a view in pixels of the stored picture of (height, width); masks are left out."""
    boxes = flip_boxes(found.boxes, shown.inside[1]) if shown.flipped else found.boxes
    factors = (size[0] / shown.inside[0], size[1] / shown.inside[1])
    return Detections(boxes=scale_boxes(boxes, factors), scores=found.scores, labels=found.labels)


def join_views(found: Sequence[Detections], nms: NmsSettings, max_boxes: int) -> Detections:
    """The boxes of several views of a picture, in its own pixels, suppressed together."""
    if len(found) == 1:
        return found[0]
    boxes, scores, labels = (
        torch.cat([getattr(one, name) for one in found]) for name in ("boxes", "scores", "labels")
    )
    kept = classwise_nms(boxes, scores, labels, nms, max_boxes)
    return Detections(boxes=boxes[kept.indices], scores=kept.scores, labels=labels[kept.indices])


def mask_pixels(mask: EncodedMask) -> NDArray[np.bool_]:
    """The mask decoded: bool (H, W)."""
    pixels: NDArray[np.bool_] = decode_mask(mask).numpy()
    return pixels


def _whole_masks(
    predict: Callable[[Tensor], Sequence[MaskPredictions]], view: PictureView, size: Size
) -> tuple[Tensor, Tensor]:
    """Class logits (Q, C + 1) and mask logits (Q, *size): enlarged, without padding, resized."""
    last = predict(view.images)[-1]
    masks = masks_at_size(last.masks[0], (view.images.shape[-2], view.images.shape[-1]))
    whole = masks[:, : view.inside[0], : view.inside[1]]
    if view.inside != size:
        whole = F.interpolate(whole[None], size=size, mode="bilinear", align_corners=False)[0]
    return last.classes[0], whole
