"""Which annotated box an anchor or a proposal has to find.

`MaxOverlapRule` is Faster R-CNN's (arXiv 1506.01497), `assign_atss` that of ATSS (arXiv 1912.02424). The
cheapest one-to-one assignment is in `ops.matching`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from imglish.ops.box_coding import box_centers
from imglish.ops.boxes import pairwise_overlaps

BACKGROUND = -1  # finds nothing, and must say so
UNCOUNTED = -2  # neither right nor wrong: takes no part in the loss
_LEAST_INSIDE = 0.01  # pixels by which ATSS wants the anchor's centre inside the annotated box


class Assignment(NamedTuple):
    """What each of N anchors or proposals has to find.

    Args:
        targets: int64 (N,), number of the annotated box, or `BACKGROUND`, or `UNCOUNTED`.
        overlaps: (N,), IoU with the annotated box that overlaps most; of ATSS with the one in ``targets``,
            0 without one.
    """

    targets: Tensor
    overlaps: Tensor

    @property
    def positive(self) -> Tensor:
        """Bool (N,), True where a box is to be found."""
        return self.targets >= 0

    @property
    def negative(self) -> Tensor:
        """Bool (N,), True where there is background."""
        return self.targets == BACKGROUND


@dataclass(frozen=True, kw_only=True, slots=True)
class MaxOverlapRule:
    """Assignment by the largest overlap; limits are IoU in [0, 1].

    Args:
        positive: An anchor with at least this much has to find the box it overlaps most.
        negative: One with less than this is background; in between it does not count.
        low_quality: Annotated boxes also get the anchors that overlap them most, if that is at least this
            much; among several boxes the last one wins. None: they do not.
        share_best: True gives a box all anchors that overlap it exactly as much as its best, False the first.
        crowd: An anchor that lies in a crowd box with more than this share of its area does not count. None:
            crowd boxes are not looked at, as in all official configs of the adapter.

    Raises:
        ValueError: A limit lies outside [0, 1], or ``negative`` above ``positive``.
    """

    positive: float
    negative: float
    low_quality: float | None = None
    share_best: bool = True
    crowd: float | None = None

    def __post_init__(self) -> None:
        limits = (self.negative, self.positive, self.low_quality, self.crowd)
        if any(limit is not None and not 0 <= limit <= 1 for limit in limits):
            raise ValueError(f"overlaps lie in [0, 1]; got {limits}")
        if self.negative > self.positive:
            raise ValueError(f"negative {self.negative} must not lie above positive {self.positive}")


def assign_max_overlap(
    anchors: Tensor, boxes: Tensor, rule: MaxOverlapRule, crowd_boxes: Tensor | None = None
) -> Assignment:
    """Assign by the largest overlap.

    Args:
        anchors: (N, 4).
        boxes: Annotated ones without crowds, (G, 4). Without any, everything outside crowds is background.
        rule: Limits.
        crowd_boxes: (K, 4); None is like none.
    """
    if len(boxes) == 0 or len(anchors) == 0:
        targets = torch.full(anchors.shape[:1], BACKGROUND, device=anchors.device)
        targets[_in_crowd(anchors, rule.crowd, crowd_boxes)] = UNCOUNTED
        return Assignment(targets, anchors.new_zeros(len(anchors)))
    overlaps = pairwise_overlaps(boxes, anchors)
    largest, nearest = overlaps.max(dim=0)
    targets = torch.full_like(nearest, UNCOUNTED)
    targets[largest < rule.negative] = BACKGROUND
    targets = torch.where(largest >= rule.positive, nearest, targets)
    in_crowd = _in_crowd(anchors, rule.crowd, crowd_boxes)
    targets[in_crowd] = UNCOUNTED
    if rule.low_quality is not None:
        targets = _add_low_quality(targets, overlaps.masked_fill(in_crowd, -1.0), rule)
    return Assignment(targets, largest)


def _add_low_quality(targets: Tensor, overlaps: Tensor, rule: MaxOverlapRule) -> Tensor:
    """Give boxes their best anchors; overlaps (G, N)."""
    assert rule.low_quality is not None
    best, first = overlaps.max(dim=1)
    wanted = overlaps == best[:, None]
    if not rule.share_best:
        wanted = torch.zeros_like(wanted).scatter_(1, first[:, None], True)
    wanted &= (best >= rule.low_quality)[:, None]
    numbers = torch.arange(len(overlaps), device=targets.device)[:, None]
    last = torch.where(wanted, numbers, -1).amax(dim=0)
    return torch.where(last >= 0, last, targets)


def assign_atss(
    levels: Sequence[Tensor],
    boxes: Tensor,
    *,
    num_candidates: int = 9,
    crowd: float | None = None,
    crowd_boxes: Tensor | None = None,
) -> Assignment:
    """Assign by ATSS: each annotated box sets its own limit from the overlaps of the anchors nearest to it.

    The limit is mean plus standard deviation of the overlaps of the ``num_candidates`` nearest anchors of
    each level; an anchor also needs its centre inside the box. Of several boxes it finds the one it overlaps
    most.

    Args:
        levels: Anchors (N_l, 4) of each level.
        boxes: Annotated ones without crowds, (G, 4). Without any, everything outside crowds is background.
        num_candidates: Nearest anchors of each level, as far as there are so many.
        crowd: An anchor that lies in a crowd box with more than this share of its area does not count; None
            does not look at crowd boxes, as in the official configs.
        crowd_boxes: (K, 4); None is like none.
    """
    anchors = torch.cat(list(levels))
    targets = torch.full(anchors.shape[:1], BACKGROUND, device=anchors.device)
    in_crowd = _in_crowd(anchors, crowd, crowd_boxes)
    targets[in_crowd] = UNCOUNTED
    none = anchors.new_zeros(len(anchors))
    if len(boxes) == 0 or len(anchors) == 0:
        return Assignment(targets, none)
    overlaps = pairwise_overlaps(anchors, boxes)
    centers = box_centers(anchors)
    far = (centers[:, None] - box_centers(boxes)).pow(2).sum(dim=2).sqrt()
    far = far.masked_fill(in_crowd[:, None], float("inf"))
    candidates = _nearest(far, [len(level) for level in levels], num_candidates)
    shared = overlaps.gather(0, candidates)
    # One candidate has no deviation: its own overlap is the limit then.
    deviation = shared.std(dim=0) if len(candidates) > 1 else torch.zeros_like(shared[0])
    inside = torch.cat([centers[candidates] - boxes[:, :2], boxes[:, 2:] - centers[candidates]], dim=2).amin(
        dim=2
    )
    chosen = (shared >= shared.mean(dim=0) + deviation) & (inside > _LEAST_INSIDE)
    wanted = torch.zeros_like(overlaps, dtype=torch.bool).scatter_(0, candidates, chosen)
    most, number = torch.where(wanted, overlaps, -1.0).max(dim=1)
    found = most >= 0
    return Assignment(torch.where(found, number, targets), torch.where(found, most, none))


def _nearest(far: Tensor, counts: Sequence[int], num_candidates: int) -> Tensor:
    """Numbers of the anchors nearest to each box on each level, (at most levels x num_candidates, G)."""
    found, start = [], 0
    for level in far.split(list(counts)):
        found.append(level.topk(min(num_candidates, len(level)), dim=0, largest=False).indices + start)
        start += len(level)
    return torch.cat(found)


def _in_crowd(anchors: Tensor, limit: float | None, crowd_boxes: Tensor | None) -> Tensor:
    """Which anchors lie in a crowd box with more than a share of their area: bool (N,)."""
    if limit is None or crowd_boxes is None or len(crowd_boxes) == 0:
        return torch.zeros(len(anchors), dtype=torch.bool, device=anchors.device)
    return pairwise_overlaps(anchors, crowd_boxes, "iof").amax(dim=1) > limit
