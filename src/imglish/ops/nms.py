"""Non-maximum suppression: of boxes that find the same thing, the surest stays.

Rules as recorded from the official code (adapter FACTS, section 5): hard suppression where the overlap is
above the limit; soft suppression (arXiv 1704.04503) where it is at or above the limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torchvision
from torch import Tensor

from imglish.ops.boxes import pairwise_overlaps

_JOINT_BELOW = (
    10_000  # so many boxes of all classes go in one run, classes moved apart; more go class by class
)


@dataclass(frozen=True, kw_only=True, slots=True)
class NmsSettings:
    """What happens to a box that overlaps with a surer one of its class.

    Args:
        kind: ``hard`` drops it where IoU > max_overlap; ``linear`` multiplies its score by 1 - IoU where
            IoU >= max_overlap; ``gaussian`` multiplies every score by exp(-IoU ** 2 / sigma).
        max_overlap: Limit of IoU, in [0, 1].
        sigma: Of ``gaussian`` only, above zero.
        min_score: Soft kinds drop a box whose score has become less.

    Raises:
        ValueError: A setting is out of its range.
    """

    kind: Literal["hard", "linear", "gaussian"] = "hard"
    max_overlap: float = 0.5
    sigma: float = 0.5
    min_score: float = 0.001

    def __post_init__(self) -> None:
        if self.kind not in ("hard", "linear", "gaussian"):
            raise ValueError(f"there is no suppression of kind {self.kind!r}; use hard, linear or gaussian")
        if not 0 <= self.max_overlap <= 1 or self.sigma <= 0:
            raise ValueError(
                f"max_overlap must lie in [0, 1] and sigma above 0; got {self.max_overlap} and {self.sigma}"
            )


class Kept(NamedTuple):
    """What suppression leaves, the surest first.

    Args:
        indices: int64 (K,), places of the boxes in what was given.
        scores: (K,), lowered where suppression is soft.
    """

    indices: Tensor
    scores: Tensor


class MulticlassKept(NamedTuple):
    """Boxes of one picture after suppression, the surest first.

    Args:
        boxes: (K, 4).
        scores: (K,).
        labels: int64 (K,).
        indices: int64 (K,), places in the N x C pairs of box and class that were given, row by row.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    indices: Tensor


def nms(boxes: Tensor, scores: Tensor, settings: NmsSettings, max_boxes: int | None = None) -> Kept:
    """Suppress among boxes of one class.

    Args:
        boxes: (N, 4).
        scores: (N,).
        settings: How.
        max_boxes: How many are kept at most; None keeps all.
    """
    if settings.kind != "hard":
        return soft_nms(boxes, scores, settings, max_boxes)
    indices = torchvision.ops.nms(boxes, scores, settings.max_overlap)[:max_boxes]
    return Kept(indices, scores[indices])


def soft_nms(boxes: Tensor, scores: Tensor, settings: NmsSettings, max_boxes: int | None = None) -> Kept:
    """Lower scores of overlapping boxes; arguments as of `nms`.

    The surest box that is left is kept, and the scores of the others lowered, over and over; among equal
    scores the first given comes first. Scores only fall, so that stopping at ``max_boxes`` changes nothing
    for those found before. It runs on the CPU: each round waits for the one before it.
    """
    place, left = boxes.detach().cpu(), scores.detach().cpu().clone()
    limit = len(left) if max_boxes is None else min(max_boxes, len(left))
    indices: list[int] = []
    kept = left.new_empty(limit)
    gone = float("-inf")
    while len(indices) < limit:
        best = int(left.argmax())
        if left[best] == gone:
            break
        kept[len(indices)] = left[best]
        indices.append(best)
        left[best] = gone
        overlaps = pairwise_overlaps(place[best : best + 1], place)[0]
        if settings.kind == "gaussian":
            weights = (-(overlaps**2) / settings.sigma).exp()
        else:
            weights = torch.where(overlaps >= settings.max_overlap, 1 - overlaps, 1.0)
        lowered = left * weights
        left = torch.where((left > gone) & (lowered >= settings.min_score), lowered, gone)
    return Kept(
        torch.tensor(indices, dtype=torch.int64, device=boxes.device), kept[: len(indices)].to(scores)
    )


def classwise_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, settings: NmsSettings, max_boxes: int | None = None
) -> Kept:
    """Suppress among boxes of the same class only.

    Args:
        boxes: (N, 4).
        scores: (N,).
        labels: int64 (N,): classes, or levels of a pyramid; at least 0.
        settings: How.
        max_boxes: How many of all classes together are kept at most; None keeps all.
    """
    if len(boxes) == 0:
        return Kept(labels.new_empty(0), scores)
    if len(boxes) < _JOINT_BELOW:
        # Far apart, classes share nothing. The shift rounds coordinates a little, as in the official code.
        apart = boxes.max() - boxes.min().clamp(max=0) + 1
        return nms(boxes + (labels * apart)[:, None].to(boxes), scores, settings, max_boxes)
    found = []
    for label in labels.unique():
        places = (labels == label).nonzero()[:, 0]
        kept = nms(boxes[places], scores[places], settings, max_boxes)
        found.append(Kept(places[kept.indices], kept.scores))
    indices, lowered = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = lowered.argsort(descending=True, stable=True)[:max_boxes]
    return Kept(indices[order], lowered[order])


def multiclass_nms(
    boxes: Tensor,
    scores: Tensor,
    settings: NmsSettings,
    *,
    min_score: float,
    max_boxes: int | None = None,
    factors: Tensor | None = None,
) -> MulticlassKept:
    """Boxes of one picture from scores of all classes.

    Args:
        boxes: (N, 4), or (N, C, 4) with a box for each class.
        scores: (N, C), without "no object".
        settings: How boxes of a class are suppressed.
        min_score: Pairs of box and class must have more.
        max_boxes: How many are kept at most; None keeps all.
        factors: (N,) that scores are multiplied by after ``min_score`` was asked for; None leaves them.
    """
    num_classes = scores.shape[1]
    pairs = (scores > min_score).flatten().nonzero()[:, 0]
    rows, labels = pairs // max(1, num_classes), pairs % max(1, num_classes)
    chosen = boxes[rows, labels] if boxes.ndim == 3 else boxes[rows]
    chosen_scores = scores[rows, labels]
    if factors is not None:
        chosen_scores = chosen_scores * factors[rows]
    kept = classwise_nms(chosen, chosen_scores, labels, settings, max_boxes)
    return MulticlassKept(chosen[kept.indices], kept.scores, labels[kept.indices], pairs[kept.indices])
