"""From queries with masks to class maps, instances and panoptic segments (MaskFormer, Mask2Former)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.structures.mask_predictions import MaskPredictions


class MaskInstances(NamedTuple):
    """Things found in one picture, the surest first.

    Args:
        scores: (N,) in [0, 1]: of the class, times how sure the mask is of its own pixels.
        classes: int64 (N,).
        masks: bool (N, H, W).
        boxes: float (N, 4), absolute xyxy around the mask, its last pixel included; zeros where it is empty.
    """

    scores: Tensor
    classes: Tensor
    masks: Tensor
    boxes: Tensor


class PanopticSegments(NamedTuple):
    """Segments of one picture that do not overlap.

    Args:
        segment_ids: int32 (H, W), 1 to S; 0 where there is none.
        classes: int64 (S,); a class of stuff comes once at most.
        scores: (S,) in [0, 1]; of stuff in several parts the surest part's.
    """

    segment_ids: Tensor
    classes: Tensor
    scores: Tensor


def semantic_scores(predictions: MaskPredictions) -> Tensor:
    """Scores of classes at each place, (B, num_classes, h, w), each the sum over queries of class x mask.

    They are no logits and do not sum to one.
    """
    classes = predictions.classes.float().softmax(dim=2)[..., :-1]
    return torch.einsum("bqc,bqhw->bchw", classes, predictions.masks.float().sigmoid())


def class_scores(output: Tensor | tuple[MaskPredictions, ...]) -> Tensor:
    """Scores of classes, (B, num_classes, h, w), from what a segmenter of either kind gives."""
    return output if isinstance(output, Tensor) else semantic_scores(output[-1])


def masks_at_size(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge mask logits (Q, h, w) to (Q, *size), as instances and segments want them."""
    return F.interpolate(masks[None].float(), size=size, mode="bilinear", align_corners=False)[0]


def mask_instances(
    classes: Tensor, masks: Tensor, *, is_thing: Tensor, max_instances: int = 100
) -> MaskInstances:
    """Things of one picture; a query may stand for several classes.

    Args:
        classes: Logits (Q, num_classes + 1).
        masks: Logits (Q, H, W) at the picture's size.
        is_thing: bool (num_classes,).
        max_instances: Pairs of query and class that are looked at; those of stuff are then left out.
    """
    num_classes = classes.shape[1] - 1
    scores = classes.float().softmax(dim=1)[:, :-1].flatten()
    best = scores.topk(min(max_instances, len(scores)))
    queries, labels = best.indices // num_classes, best.indices % num_classes
    things = is_thing[labels]
    queries, labels, class_shares = queries[things], labels[things], best.values[things]
    chosen = masks[queries]
    inside = chosen > 0
    sure = (chosen.sigmoid() * inside).flatten(1).sum(dim=1) / (inside.flatten(1).sum(dim=1) + 1e-6)
    order = (class_shares * sure).argsort(descending=True, stable=True)
    inside = inside[order]
    return MaskInstances((class_shares * sure)[order], labels[order], inside, _boxes_around(inside))


def panoptic_segments(
    classes: Tensor,
    masks: Tensor,
    *,
    is_thing: Tensor,
    min_score: float = 0.8,
    min_overlap: float = 0.8,
    only_inside: bool = True,
) -> PanopticSegments:
    """Segments of one picture: every pixel goes to the query that claims it most.

    Args:
        classes: Logits (Q, num_classes + 1).
        masks: Logits (Q, H, W) at the picture's size.
        is_thing: bool (num_classes,); parts of the same stuff are joined.
        min_score: Queries whose best class has less are left out.
        min_overlap: A query whose pixels are a smaller share of its mask, counted inside and outside of it,
            is left out.
        only_inside: True then leaves pixels free that their query counts out of its mask.
    """
    num_classes = classes.shape[1] - 1
    scores, labels = classes.float().softmax(dim=1).max(dim=1)
    kept = (labels != num_classes) & (scores > min_score)
    scores, labels, shares = scores[kept], labels[kept], masks[kept].sigmoid()
    segment_ids = torch.zeros(masks.shape[-2:], dtype=torch.int32, device=masks.device)
    found: list[int] = []
    found_scores: list[float] = []
    if len(labels):
        owner = (scores[:, None, None] * shares).argmax(dim=0)
    for query, (label, score) in enumerate(zip(labels.tolist(), scores.tolist(), strict=True)):
        whole, mine = shares[query] >= 0.5, owner == query
        area, whole_area = int(mine.sum()), int(whole.sum())
        if only_inside:
            mine &= whole
        if not mine.any() or whole_area == 0 or area / whole_area < min_overlap:
            continue
        if is_thing[label] or label not in found:
            found.append(label)
            found_scores.append(score)
            number = len(found)
        else:
            number = found.index(label) + 1
            found_scores[number - 1] = max(found_scores[number - 1], score)
        segment_ids[mine] = number
    return PanopticSegments(
        segment_ids,
        torch.tensor(found, dtype=torch.int64, device=masks.device),
        torch.tensor(found_scores, device=masks.device),
    )


def _boxes_around(masks: Tensor) -> Tensor:
    """Boxes (N, 4) xyxy around masks bool (N, H, W), zeros around empty ones."""
    ends = []
    for axis in (1, 2):  # columns, then rows
        used = masks.any(dim=axis)
        first = used.int().argmax(dim=1)
        last = used.shape[1] - used.flip(1).int().argmax(dim=1)
        ends.append((first, torch.where(used.any(dim=1), last, 0)))
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], dim=1).float()
