"""Mask2Former's loss (arXiv 2112.01527, section 3.3): match queries with masks, compare them at points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.losses.segmentation import IGNORED_CLASS
from imglish.ops.matching import assign
from imglish.ops.points import DrawPoints, sample_masks, sample_points, uncertain_points
from imglish.ops.precision import at_least_fp32
from imglish.structures.mask_predictions import MaskPredictions, MaskTargets


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskSetLoss:
    """Weights and numbers of the loss, as published.

    Args:
        class_weight: Weight of the cross entropy of classes, and of their cost in matching.
        mask_weight: The same of the binary cross entropy of masks.
        dice_weight: The same of the dice loss.
        no_object_weight: What a query without a mask counts in the cross entropy.
        num_points: Points at which masks are compared.
        oversample: Candidates over points, from which the uncertain ones are chosen.
        importance: Share of points that are uncertain ones.
    """

    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    no_object_weight: float = 0.1
    num_points: int = 12_544
    oversample: float = 3.0
    importance: float = 0.75


class MaskSetTerms(NamedTuple):
    """Weighted terms of one prediction, before masks are averaged.

    Args:
        classes: Mean cross entropy over queries, each counted by the weight of its class.
        masks: Binary cross entropy, mean over points, sum over masks.
        dice: Dice loss, sum over masks.
    """

    classes: Tensor
    masks: Tensor
    dice: Tensor


def class_masks(class_map: Tensor) -> MaskTargets:
    """One mask for each class of a map int64 (H, W); pixels of 255 belong to none."""
    classes = class_map.unique()
    classes = classes[classes != IGNORED_CLASS]
    return MaskTargets(classes, class_map == classes[:, None, None])


def uniform_points(device: torch.device) -> DrawPoints:
    """Draws points from torch's generator of the device."""
    return lambda count, num_points: torch.rand(count, num_points, 2, device=device)


def matching_costs(
    classes: Tensor, masks: Tensor, targets: MaskTargets, points: Tensor, loss: MaskSetLoss
) -> Tensor:
    """What it would cost to give each mask to each query of one picture.

    Args:
        classes: Logits (Q, num_classes + 1).
        masks: Logits (Q, h, w).
        targets: The picture's masks.
        points: Where they are compared, (P, 2) as (x, y) in [0, 1].
        loss: Weights.

    Returns:
        (Q, G).
    """
    predicted = sample_points(masks[None], points[None])[0]
    every = torch.arange(len(targets.masks), device=targets.masks.device)
    wanted = sample_masks(targets.masks, every, points[None], predicted.dtype)
    class_cost = -classes.softmax(dim=1)[:, targets.classes]
    inside, outside = F.softplus(-predicted), F.softplus(predicted)
    mask_cost = (inside @ wanted.T + outside @ (1 - wanted).T) / len(points)
    shares = predicted.sigmoid()
    dice_cost = 1 - (2 * (shares @ wanted.T) + 1) / (shares.sum(1)[:, None] + wanted.sum(1) + 1)
    return loss.class_weight * class_cost + loss.mask_weight * mask_cost + loss.dice_weight * dice_cost


def match(
    predictions: MaskPredictions, targets: Sequence[MaskTargets], loss: MaskSetLoss, draw: DrawPoints
) -> list[tuple[Tensor, Tensor]]:
    """Queries in ascending order and their masks, by number, of each picture; fresh points for each."""
    pairs = []
    for classes, masks, wanted in zip(predictions.classes, predictions.masks, targets, strict=True):
        points = draw(1, loss.num_points)[0]
        costs = matching_costs(classes.detach(), masks.detach(), wanted, points, loss)
        queries, numbers = assign(costs)
        pairs.append((queries.to(masks.device), numbers.to(masks.device)))
    return pairs


def mask_set_terms(
    predictions: MaskPredictions, targets: Sequence[MaskTargets], loss: MaskSetLoss, draw: DrawPoints
) -> MaskSetTerms:
    """The terms of one prediction of a batch; divide those of masks by how many were matched.

    Args:
        predictions: Of B pictures.
        targets: Of each picture.
        loss: Weights and numbers.
        draw: Uniform points, drawn once for each picture, then for the candidates, then for the rest.
    """
    exact = [at_least_fp32(x) for x in predictions]
    with torch.autocast(exact[0].device.type, enabled=False):
        return _terms(MaskPredictions(*exact), targets, loss, draw)


def num_matched(targets: Sequence[MaskTargets], num_queries: int) -> int:
    """Masks of a batch that find a query: no more of a picture than there are queries."""
    return sum(min(len(wanted.classes), num_queries) for wanted in targets)


def all_layers_terms(
    layers: Sequence[MaskPredictions], targets: Sequence[MaskTargets], loss: MaskSetLoss, draw: DrawPoints
) -> MaskSetTerms:
    """The terms of every layer's predictions added up, one layer after the other; see `mask_set_terms`."""
    terms = [mask_set_terms(predictions, targets, loss, draw) for predictions in layers]
    return MaskSetTerms(*(torch.stack(layer).sum() for layer in zip(*terms, strict=True)))


def _terms(
    predictions: MaskPredictions, targets: Sequence[MaskTargets], loss: MaskSetLoss, draw: DrawPoints
) -> MaskSetTerms:
    pairs = match(predictions, targets, loss, draw)
    classes, no_object = predictions.classes, predictions.classes.shape[2] - 1
    labels = torch.full(classes.shape[:2], no_object, device=classes.device)
    for row, (queries, numbers), wanted in zip(labels, pairs, targets, strict=True):
        row[queries] = wanted.classes[numbers]
    weights = classes.new_ones(no_object + 1)
    weights[no_object] = loss.no_object_weight
    class_term = F.cross_entropy(classes.transpose(1, 2), labels, weight=weights)

    chosen = [masks[queries] for masks, (queries, _) in zip(predictions.masks, pairs, strict=True)]
    logits = torch.cat(chosen)
    if len(logits) == 0:
        nothing = predictions.masks.sum() * 0.0  # so that every parameter has a gradient
        return MaskSetTerms(loss.class_weight * class_term, nothing, nothing)
    points = uncertain_points(
        logits.detach(), loss.num_points, oversample=loss.oversample, importance=loss.importance, draw=draw
    )
    counts = [len(queries) for queries, _ in pairs]
    wanted_at = [
        sample_masks(wanted.masks, numbers, part, logits.dtype)
        for wanted, (_, numbers), part in zip(targets, pairs, points.split(counts), strict=True)
    ]
    predicted, wanted_points = sample_points(logits[:, None], points)[:, 0], torch.cat(wanted_at)
    return MaskSetTerms(
        loss.class_weight * class_term,
        loss.mask_weight * _cross_entropy(predicted, wanted_points),
        loss.dice_weight * _dice(predicted, wanted_points),
    )


def _cross_entropy(logits: Tensor, wanted: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(dim=1).sum()


def _dice(logits: Tensor, wanted: Tensor) -> Tensor:
    shares = logits.sigmoid()
    both = (shares * wanted).sum(dim=1)
    return (1 - (2 * both + 1) / (shares.sum(dim=1) + wanted.sum(dim=1) + 1)).sum()
