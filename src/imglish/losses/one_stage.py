"""Losses of one-stage detectors: what each cell has to find, and how far it is from that.

Every term is a sum over cells; what it is divided by is given apart (adapter FACTS, section 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from imglish.losses.boxes import centerness, summed_distribution_focal, summed_giou
from imglish.losses.focal import summed_binary_cross_entropy, summed_focal, summed_quality_focal
from imglish.ops.anchors import cells_on_picture
from imglish.ops.assignment import UNCOUNTED, assign_atss
from imglish.ops.box_coding import box_centers, decode_boxes, decode_distances, encode_distances
from imglish.ops.boxes import paired_overlaps
from imglish.ops.precision import at_least_fp32
from imglish.structures.dense_boxes import (
    ATSS_STDS,
    AnchorLevels,
    AtssPredictions,
    DensePredictions,
    DenseTargets,
    GflPredictions,
)
from imglish.structures.instances import Instances

_SIZE_DIVISOR = 32  # the official code pads pictures to multiples of it and counts cells there as theirs
_LAST_SHARE = 0.1  # GFL's distances stay so far below the largest one, which has none above it


@dataclass(frozen=True, kw_only=True, slots=True)
class OneStageLoss:
    """Weights and numbers of the loss, as in the official configs of ATSS and GFL.

    Args:
        class_weight: Of the (quality) focal loss.
        box_weight: Of GIoU.
        centerness_weight: Of the cross entropy of centerness, which ATSS alone has.
        distribution_weight: Of the distribution focal loss, which GFL alone has.
        alpha: Of ATSS's focal loss.
        gamma: Of the focal losses.
        num_candidates: Nearest anchors of each level that may find an object.
        crowd: Cells whose anchor lies in a crowd region with more than this share of its area do not count;
            None, as in the official code, makes them background.
    """

    class_weight: float = 1.0
    box_weight: float = 2.0
    centerness_weight: float = 1.0
    distribution_weight: float = 0.25
    alpha: float = 0.25
    gamma: float = 2.0
    num_candidates: int = 9
    crowd: float | None = None


class OneStageTerms(NamedTuple):
    """Weighted terms of a batch, each a sum over cells of all levels, and what each is divided by.

    The official code averages the divisors over ranks, and takes 1 where one is less. Those that
    `known_counts` gives are known before anything is predicted.

    Args:
        classes: (Quality) focal loss.
        boxes: GIoU.
        quality: Cross entropy of centerness (ATSS), or of distributions of sides (GFL).
        class_count: The targets' ``num_found``.
        box_count: Sum of the weights of boxes, without gradient: of ATSS how central their cells are, of GFL
            their largest scores, which predictions tell.
        quality_count: The same as ``class_count`` (ATSS), or as ``box_count`` (GFL).
    """

    classes: Tensor
    boxes: Tensor
    quality: Tensor
    class_count: Tensor
    box_count: Tensor
    quality_count: Tensor

    def sums(self) -> dict[str, Tensor]:
        """The terms by name."""
        return {"classes": self.classes, "boxes": self.boxes, "quality": self.quality}

    def counts(self) -> dict[str, Tensor]:
        """What they are divided by, by the same names."""
        return {"classes": self.class_count, "boxes": self.box_count, "quality": self.quality_count}


def mean_terms(terms: OneStageTerms) -> dict[str, Tensor]:
    """Each term divided by its count, by name; the loss of a batch by itself is their sum."""
    counts = terms.counts()
    return {name: total / counts[name].clamp(min=1) for name, total in terms.sums().items()}


def known_counts(levels: AnchorLevels, targets: DenseTargets, *, by_scores: bool) -> dict[str, float]:
    """What sums of `OneStageTerms` are divided by, as far as it is known before anything is predicted.

    Args:
        levels: Anchors; `ops.anchors.square_levels` makes them.
        targets: Of `dense_targets` for these levels.
        by_scores: True of GFL, whose boxes count by its own scores.
    """
    num_found = float(targets.num_found)
    if by_scores:
        return {"classes": num_found}
    # In float64, or the sum would depend on which rank adds what.
    central = float(_central(levels, targets).sum(dtype=torch.float64))
    return {"classes": num_found, "boxes": central, "quality": num_found}


@torch.no_grad()
def dense_targets(
    levels: AnchorLevels,
    objects: Sequence[Instances],
    sizes: Sequence[tuple[int, int]],
    loss: OneStageLoss,
) -> DenseTargets:
    """What each cell has to find, by ATSS's assignment.

    Args:
        levels: Anchors; `ops.anchors.square_levels` makes them where there are no predictions yet.
        objects: Of each picture; no cell finds one without an area, as no centre lies in it.
        sizes: (height, width) of each picture without padding.
        loss: How they are assigned.
    """
    anchors = torch.cat(levels.anchors)
    labels = torch.full((len(objects), len(anchors)), -1, device=anchors.device)
    boxes = anchors.new_zeros(len(objects), len(anchors), 4)
    counted = torch.zeros_like(labels, dtype=torch.bool)
    num_found = torch.zeros((), dtype=torch.int64, device=anchors.device)
    for row, (own, size) in enumerate(zip(objects, sizes, strict=True)):
        on_picture = _on_picture(levels, size)
        single = ~own.crowd
        assigned = assign_atss(
            [level[here] for level, here in zip(levels.anchors, on_picture, strict=True)],
            own.boxes[single],
            num_candidates=loss.num_candidates,
            crowd=loss.crowd,
            crowd_boxes=own.boxes[own.crowd],
        )
        cells = torch.cat(on_picture).nonzero()[:, 0]
        counted[row, cells] = assigned.targets != UNCOUNTED
        cells, numbers = cells[assigned.positive], assigned.targets[assigned.positive]
        labels[row, cells] = own.labels[single][numbers]
        boxes[row, cells] = own.boxes[single][numbers].to(boxes.dtype)
        num_found += max(1, len(cells))
    return DenseTargets(labels, boxes, counted, num_found)


def one_stage_terms(
    predictions: DensePredictions, targets: DenseTargets, loss: OneStageLoss
) -> OneStageTerms:
    """Compare what a detector says with what it should have said.

    Args:
        predictions: Of either detector.
        targets: Of `dense_targets` for the same levels.
        loss: Weights.
    """
    if isinstance(predictions, AtssPredictions):
        return _atss_terms(predictions, targets, loss)
    return _gfl_terms(predictions, targets, loss)


def _atss_terms(predictions: AtssPredictions, targets: DenseTargets, loss: OneStageLoss) -> OneStageTerms:
    classes, deltas = _joined(predictions.classes), _joined(predictions.deltas)
    found = targets.labels >= 0
    anchors = torch.cat(predictions.levels.anchors).expand_as(targets.boxes)[found]
    wanted, central = targets.boxes[found], _central(predictions.levels, targets)
    boxes = decode_boxes(anchors, deltas[found], stds=ATSS_STDS)
    quality = summed_binary_cross_entropy(_joined(predictions.centerness)[found], central)
    labels = targets.labels[targets.counted]
    focal = summed_focal(classes[targets.counted], labels, alpha=loss.alpha, gamma=loss.gamma)
    return OneStageTerms(
        loss.class_weight * focal,
        loss.box_weight * summed_giou(boxes, wanted, central),
        loss.centerness_weight * quality,
        targets.num_found,
        central.sum(),
        targets.num_found,
    )


def _central(levels: AnchorLevels, targets: DenseTargets) -> Tensor:
    """How central each cell with an object lies in it: (number of them,)."""
    found = targets.labels >= 0
    anchors = torch.cat(levels.anchors).expand_as(targets.boxes)[found]
    return centerness(box_centers(anchors), targets.boxes[found])


def _gfl_terms(predictions: GflPredictions, targets: DenseTargets, loss: OneStageLoss) -> OneStageTerms:
    classes = _joined(predictions.classes)
    distributions = _joined(predictions.distributions)
    found = targets.labels >= 0
    # Sides are compared in cells.
    cells = torch.cat(
        [
            anchors.new_full((len(anchors), 1), stride)
            for anchors, stride in zip(predictions.levels.anchors, predictions.levels.strides, strict=True)
        ]
    ).expand(len(found), -1, 1)[found]
    points = box_centers(torch.cat(predictions.levels.anchors)).expand(len(found), -1, 2)[found] / cells
    wanted = targets.boxes[found] / cells
    boxes = decode_distances(points, _joined(predictions.distances)[found])
    weights = classes.detach()[found].sigmoid().amax(dim=1)
    qualities = torch.zeros_like(targets.boxes[..., 0])
    qualities[found] = paired_overlaps(boxes.detach(), wanted).to(qualities.dtype)
    farthest = distributions.shape[-1] - 1 - _LAST_SHARE
    sides = encode_distances(points, wanted, farthest)
    focal = summed_quality_focal(
        classes[targets.counted], targets.labels[targets.counted], qualities[targets.counted], beta=loss.gamma
    )
    spread = summed_distribution_focal(distributions[found], sides, weights[:, None]) / 4
    return OneStageTerms(
        loss.class_weight * focal,
        loss.box_weight * summed_giou(boxes, wanted, weights),
        loss.distribution_weight * spread,
        targets.num_found,
        weights.sum(),
        weights.sum(),
    )


def _joined(levels: Sequence[Tensor]) -> Tensor:
    """Predictions (B, N_l, ...) of all levels as (B, N, ...)."""
    return at_least_fp32(torch.cat(list(levels), dim=1))


def _on_picture(levels: AnchorLevels, size: tuple[int, int]) -> list[Tensor]:
    """Cells of each level that lie on a picture, bool (N_l,)."""
    height, width = (side + -side % _SIZE_DIVISOR for side in size)
    return [
        cells_on_picture(grid, stride, (height, width), device=anchors.device)
        for anchors, stride, grid in zip(levels.anchors, levels.strides, levels.grids, strict=True)
    ]
