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
# Pairs of anchor and box whose overlaps are computed together: those of 500 boxes with all anchors of a
# picture of 1333 x 800 would take a gigabyte and more.
_PAIRS_AT_ONCE = 2**21


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
    in_crowd = _in_crowd(anchors, rule.crowd, crowd_boxes)
    largest = anchors.new_full((len(anchors),), -1.0)
    nearest = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
    last, start = torch.full_like(nearest, -1), 0
    for some in boxes.split(_boxes_at_once(anchors)):
        overlaps = pairwise_overlaps(some, anchors)
        most, number = overlaps.max(dim=0)
        nearest = torch.where(most > largest, number + start, nearest)
        largest = torch.maximum(largest, most)  # stays no number where an anchor is none
        if rule.low_quality is not None:
            own = _last_of_low_quality(overlaps.masked_fill(in_crowd, -1.0), rule, rule.low_quality)
            last = torch.where(own >= 0, own + start, last)
        start += len(some)
    targets = torch.full_like(nearest, UNCOUNTED)
    targets[largest < rule.negative] = BACKGROUND
    targets = torch.where(largest >= rule.positive, nearest, targets)
    targets[in_crowd] = UNCOUNTED
    return Assignment(torch.where(last >= 0, last, targets), largest)


def _last_of_low_quality(overlaps: Tensor, rule: MaxOverlapRule, least: float) -> Tensor:
    """The last of G boxes that has each anchor as its best, if it is good enough, else -1.

    Args:
        overlaps: (G, N).
        rule: Whether boxes share.
        least: Overlap that is good enough.

    Returns:
        int64 (N,).
    """
    best, first = overlaps.max(dim=1)
    wanted = overlaps == best[:, None]
    if not rule.share_best:
        wanted = torch.zeros_like(wanted).scatter_(1, first[:, None], True)
    wanted &= (best >= least)[:, None]
    numbers = torch.arange(len(overlaps), device=overlaps.device)[:, None]
    return torch.where(wanted, numbers, -1).amax(dim=0)


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
    counts = [len(level) for level in levels]
    most, start = torch.full_like(none, -1.0), 0
    for some in boxes.split(_boxes_at_once(anchors)):
        own, number = _atss_overlaps(anchors, counts, some, in_crowd, num_candidates).max(dim=1)
        targets = torch.where(own > most, number + start, targets)
        most, start = torch.maximum(most, own), start + len(some)
    return Assignment(targets, torch.where(most >= 0, most, none))


def _atss_overlaps(
    anchors: Tensor, counts: Sequence[int], boxes: Tensor, in_crowd: Tensor, num_candidates: int
) -> Tensor:
    """Overlaps (N, G) of anchors with the boxes that they may find, -1 with all others.

    Args:
        anchors: (N, 4), level by level.
        counts: How many each level has.
        boxes: (G, 4).
        in_crowd: Which anchors do not count, bool (N,).
        num_candidates: Of each level.
    """
    overlaps = pairwise_overlaps(anchors, boxes)
    centers = box_centers(anchors)
    far = (centers[:, None] - box_centers(boxes)).pow(2).sum(dim=2).sqrt()
    far = far.masked_fill(in_crowd[:, None], float("inf"))
    candidates = _nearest(far, counts, num_candidates)
    shared = overlaps.gather(0, candidates)
    # One candidate has no deviation: its own overlap is the limit then.
    deviation = shared.std(dim=0) if len(candidates) > 1 else torch.zeros_like(shared[0])
    inside = torch.cat([centers[candidates] - boxes[:, :2], boxes[:, 2:] - centers[candidates]], dim=2).amin(
        dim=2
    )
    chosen = (shared >= shared.mean(dim=0) + deviation) & (inside > _LEAST_INSIDE)
    wanted = torch.zeros_like(overlaps, dtype=torch.bool).scatter_(0, candidates, chosen)
    return torch.where(wanted, overlaps, -1.0)


def _boxes_at_once(anchors: Tensor) -> int:
    """How many boxes are compared with all anchors together."""
    return max(1, _PAIRS_AT_ONCE // len(anchors))


def _nearest(far: Tensor, counts: Sequence[int], num_candidates: int) -> Tensor:
    """Numbers of the anchors nearest to each box on each level, (at most levels x num_candidates, G)."""
    found, start = [], 0
    for level in far.split(list(counts)):
        found.append(level.topk(min(num_candidates, len(level)), dim=0, largest=False).indices + start)
        start += len(level)
    return torch.cat(found)


def _in_crowd(anchors: Tensor, limit: float | None, crowd_boxes: Tensor | None) -> Tensor:
    """Which anchors lie in a crowd box with more than a share of their area: bool (N,)."""
    inside = torch.zeros(len(anchors), dtype=torch.bool, device=anchors.device)
    if limit is None or crowd_boxes is None or len(anchors) == 0:
        return inside
    for some in crowd_boxes.split(_boxes_at_once(anchors)):
        inside |= (pairwise_overlaps(anchors, some, "iof") > limit).any(dim=1)
    return inside
