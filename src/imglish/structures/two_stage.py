"""What a two-stage detector says: in training everything its loss needs, else what it found.

R are regions of interest: boxes of all pictures of a batch, one picture after the other.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class RpnSample(NamedTuple):
    """Anchors on which the region proposal network is trained.

    Args:
        objectness: Logits (S,).
        deltas: Predicted changes (S, 4).
        anchors: (S, 4).
        matched: The object's box (S, 4), of those that are foreground; else the anchor itself.
        foreground: bool (S,), True where there is an object.
        levels: int64 (S,), the anchor's level, from 0 for the finest.
        divisor: What the terms are averaged over, int64 (). Official: of each picture the foreground and the
            background anchors, each counted as one where there is none.
    """

    objectness: Tensor
    deltas: Tensor
    anchors: Tensor
    matched: Tensor
    foreground: Tensor
    levels: Tensor
    divisor: Tensor


class RoiSample(NamedTuple):
    """Regions that a stage is trained on.

    Args:
        boxes: (R, 4).
        pictures: int64 (R,), the picture of each in the batch.
        labels: int64 (R,), the object's class; the number of classes is background.
        objects: int64 (R,), the object's number among the picture's that are no crowd; -1 is background.
        matched: The object's box (R, 4); of background the region itself.
        is_truth: bool (R,), True where the region is an object's own box, put among the proposals.
    """

    boxes: Tensor
    pictures: Tensor
    labels: Tensor
    objects: Tensor
    matched: Tensor
    is_truth: Tensor


class BoxStage(NamedTuple):
    """One box head in training.

    Args:
        sample: Its regions.
        classes: Logits (R, num_classes + 1), the last is background.
        deltas: Predicted changes (R, num_classes, 4), or (R, 1, 4) for all classes alike.
        stds: What the changes are divided by.
    """

    sample: RoiSample
    classes: Tensor
    deltas: Tensor
    stds: tuple[float, float, float, float]


class MaskStage(NamedTuple):
    """One mask head in training; P are the regions with an object.

    Args:
        masks: Logits (P, num_classes, M, M).
        labels: int64 (P,).
        targets: bool (P, M, M), the object's mask in the region.
    """

    masks: Tensor
    labels: Tensor
    targets: Tensor


class TwoStagePredictions(NamedTuple):
    """A two-stage detector in training.

    Args:
        rpn: Of the region proposal network.
        boxes: Of each box head.
        masks: Of each mask head; none where the detector finds boxes only.
        semantic: Class logits (B, num_classes, h, w) of HTC's semantic branch.
    """

    rpn: RpnSample
    boxes: tuple[BoxStage, ...]
    masks: tuple[MaskStage, ...]
    semantic: Tensor | None


class Candidates(NamedTuple):
    """Boxes of one picture before duplicates are removed.

    Args:
        boxes: (R, num_classes, 4), or (R, 1, 4) where all classes share a box.
        scores: (R, num_classes), in [0, 1].
    """

    boxes: Tensor
    scores: Tensor


class RawDetections(NamedTuple):
    """What a detector finds in one picture, best first; in pixels of the picture as it was shown.

    Args:
        boxes: (N, 4).
        scores: (N,), in [0, 1].
        labels: int64 (N,).
        masks: Probabilities (N, M, M) of the cells of each box; None where the detector finds boxes only.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None
