"""Losses of two-stage detectors: region proposals, boxes, masks, and HTC's semantic branch.

Every term is a sum and what it is divided by; the official code divides on each rank by its own count
(adapter FACTS, section 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.losses.boxes import summed_giou, summed_l1, summed_smooth_l1
from imglish.losses.segmentation import pixel_cross_entropy
from imglish.ops.box_coding import NO_SHIFT, decode_boxes, encode_boxes
from imglish.structures.two_stage import BoxStage, MaskStage, RpnSample, TwoStagePredictions

BoxLoss = Literal["l1", "smooth_l1", "giou"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoStageLoss:
    """Weights and kinds, as published for Mask R-CNN.

    Args:
        rpn_box: Of changes of anchors; ``l1`` or ``smooth_l1``.
        rpn_beta: Where the smooth form of theirs becomes straight: 1 / 9 in the official cascades.
        box: Of regions: ``l1`` and ``smooth_l1`` of changes, ``giou`` of boxes.
        box_beta: Where the smooth form becomes straight.
        box_weight: 10 goes with ``giou``.
        stages: Weights of the stages of a cascade; the first ones count.
        semantic: Weight of the semantic branch.

    Raises:
        ValueError: Proposals were to learn by GIoU, which no official config has.
    """

    rpn_box: BoxLoss = "l1"
    rpn_beta: float = 1 / 9
    box: BoxLoss = "l1"
    box_beta: float = 1.0
    box_weight: float = 1.0
    stages: tuple[float, ...] = (1.0, 0.5, 0.25)
    semantic: float = 0.2

    def __post_init__(self) -> None:
        if self.rpn_box == "giou":
            raise ValueError("region proposals learn by l1 or smooth_l1; got giou")


class Term(NamedTuple):
    """A weighted sum, and over how much it is a mean.

    Args:
        total: Scalar.
        divisor: Scalar, at least 1.
    """

    total: Tensor
    divisor: Tensor

    @property
    def mean(self) -> Tensor:
        """The term of this rank's batch alone, as the official code has it."""
        return self.total / self.divisor


# Of the official Cascade Mask R-CNN, and of HTC++ after Objects365.
CASCADE_LOSS = TwoStageLoss(rpn_box="smooth_l1", box="giou", box_weight=10.0)
# Of the other official HTC++.
HTC_LOSS = TwoStageLoss(rpn_box="smooth_l1", box="smooth_l1")


def two_stage_terms(
    predictions: TwoStagePredictions, loss: TwoStageLoss, semantic: Tensor | None = None
) -> dict[str, Term]:
    """All terms by name; their means are added up to what goes down.

    Args:
        predictions: Of the detector in training.
        loss: Weights and kinds.
        semantic: Class maps int64 (B, H, W) for the semantic branch, 255 = ignore.

    Returns:
        ``rpn_class``, ``rpn_box``, then with the stage's number from 0 ``class0``, ``box0``, ``mask0``, and
        ``semantic``.

    Raises:
        ValueError: There is a semantic branch, but no class maps; or more stages than weights.
    """
    terms = rpn_terms(predictions.rpn, loss)
    if len(predictions.boxes) > len(loss.stages):
        raise ValueError(f"{len(predictions.boxes)} stages, but weights for {len(loss.stages)}")
    for number, stage in enumerate(predictions.boxes):
        weight = loss.stages[number]
        classes, boxes = box_terms(stage, loss)
        terms[f"class{number}"] = _weighted(classes, weight)
        terms[f"box{number}"] = _weighted(boxes, weight)
        if predictions.masks:
            terms[f"mask{number}"] = _weighted(mask_term(predictions.masks[number]), weight)
    if predictions.semantic is not None:
        if semantic is None:
            raise ValueError("the detector has a semantic branch, which needs class maps")
        terms["semantic"] = _weighted(semantic_term(predictions.semantic, semantic), loss.semantic)
    return terms


def rpn_terms(sample: RpnSample, loss: TwoStageLoss) -> dict[str, Term]:
    """Cross entropy of foreground and background, and differences of the foreground's changes."""
    wanted = sample.foreground.to(sample.objectness.dtype)
    classes = F.binary_cross_entropy_with_logits(sample.objectness, wanted, reduction="sum")
    inside = sample.foreground
    changes = encode_boxes(sample.anchors[inside], sample.matched[inside])
    predicted = sample.deltas[inside]
    if loss.rpn_box == "l1":
        boxes = summed_l1(predicted, changes)
    else:
        boxes = summed_smooth_l1(predicted, changes, beta=loss.rpn_beta)
    return {"rpn_class": Term(classes, sample.divisor), "rpn_box": Term(boxes, sample.divisor)}


def box_terms(stage: BoxStage, loss: TwoStageLoss) -> tuple[Term, Term]:
    """Cross entropy of classes and differences of the foreground's boxes, both over all regions.

    Returns:
        Both without the stage's weight.
    """
    sample = stage.sample
    count = torch.tensor(max(1, len(sample.labels)), device=sample.labels.device)
    classes = F.cross_entropy(stage.classes, sample.labels, reduction="sum")
    inside = (sample.objects >= 0).nonzero()[:, 0]
    labels = sample.labels[inside] if stage.deltas.shape[1] > 1 else torch.zeros_like(inside)
    predicted, regions, matched = stage.deltas[inside, labels], sample.boxes[inside], sample.matched[inside]
    if loss.box == "giou":
        boxes = summed_giou(decode_boxes(regions, predicted, NO_SHIFT, stage.stds), matched)
    else:
        wanted = encode_boxes(regions, matched, NO_SHIFT, stage.stds)
        if loss.box == "l1":
            boxes = summed_l1(predicted, wanted)
        else:
            boxes = summed_smooth_l1(predicted, wanted, beta=loss.box_beta)
    return Term(classes, count), Term(loss.box_weight * boxes, count)


def mask_term(stage: MaskStage) -> Term:
    """Cross entropy of each cell of the mask of the region's own class, over all cells."""
    rows = torch.arange(len(stage.labels), device=stage.labels.device)
    logits = stage.masks[rows, stage.labels]
    total = F.binary_cross_entropy_with_logits(logits, stage.targets.to(logits.dtype), reduction="sum")
    return Term(total, torch.tensor(max(1, logits.numel()), device=logits.device))


def semantic_term(logits: Tensor, class_maps: Tensor) -> Term:
    """Cross entropy of the cells of the branch's map, over all of them, also those that are ignored.

    Args:
        logits: (B, num_classes, h, w).
        class_maps: int64 (B, H, W), of which the nearest pixel of each cell is taken.
    """
    size = (logits.shape[-2], logits.shape[-1])
    if class_maps.shape[-2:] != size:
        class_maps = F.interpolate(class_maps[:, None].float(), size=size, mode="nearest")[:, 0].long()
    mean = pixel_cross_entropy(logits, class_maps)
    return Term(mean, torch.ones((), device=logits.device))


def _weighted(term: Term, weight: float) -> Term:
    return Term(weight * term.total, term.divisor)
