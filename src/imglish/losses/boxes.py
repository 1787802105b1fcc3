"""Losses of boxes, summed; the caller divides by what is counted.

Sides, changes and distances are compared by L1, its smooth form, GIoU or as a distribution. Every sum of
nothing is 0 and keeps what it was computed from in the graph, as data parallelism wants.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.ops.boxes import paired_overlaps
from imglish.ops.precision import at_least_fp32


def summed_l1(predicted: Tensor, wanted: Tensor, weights: Tensor | None = None) -> Tensor:
    """Absolute differences of numbers (N, K), summed.

    Args:
        predicted: (N, K).
        wanted: (N, K).
        weights: (N,); None counts all alike.
    """
    return _weighted((at_least_fp32(predicted) - wanted).abs().sum(dim=-1), weights)


def summed_smooth_l1(
    predicted: Tensor, wanted: Tensor, weights: Tensor | None = None, *, beta: float = 1.0
) -> Tensor:
    """Differences of numbers (N, K), squared where they are below ``beta`` (arXiv 1504.08083), summed.

    Args:
        predicted: (N, K).
        wanted: (N, K).
        weights: (N,); None counts all alike.
        beta: Above zero. A difference d counts d * d / (2 * beta) below it, d - beta / 2 from it on.
    """
    losses = F.smooth_l1_loss(at_least_fp32(predicted), at_least_fp32(wanted), reduction="none", beta=beta)
    return _weighted(losses.sum(dim=-1), weights)


def summed_giou(predicted: Tensor, wanted: Tensor, weights: Tensor | None = None) -> Tensor:
    """One minus generalised IoU (arXiv 1902.09630) of boxes with their partners, summed.

    Args:
        predicted: (N, 4).
        wanted: (N, 4).
        weights: (N,); None counts all alike.
    """
    overlaps = paired_overlaps(at_least_fp32(predicted), at_least_fp32(wanted), "giou")
    return _weighted(1 - overlaps, weights)


def summed_distribution_focal(logits: Tensor, wanted: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross entropy with the two whole numbers around a distance (arXiv 2006.04388), summed.

    Args:
        logits: (..., R + 1), of the distances 0 to R.
        wanted: (...), in [0, R).
        weights: (...); None counts all alike.
    """
    below = wanted.long()
    share_above = at_least_fp32(wanted) - below
    logarithms = at_least_fp32(logits).log_softmax(dim=-1)
    at_below, at_above = (logarithms.gather(-1, place[..., None])[..., 0] for place in (below, below + 1))
    return _weighted(-(1 - share_above) * at_below - share_above * at_above, weights)


def centerness(points: Tensor, boxes: Tensor) -> Tensor:
    """How near points (N, 2) lie to the centres of boxes (N, 4) around them (arXiv 1904.01355).

    Returns:
        (N,): 1 in the centre, 0 on a side.
    """
    to_corner, to_far_corner = points - boxes[:, :2], boxes[:, 2:] - points
    shares = torch.minimum(to_corner, to_far_corner) / torch.maximum(to_corner, to_far_corner)
    return (shares[:, 0] * shares[:, 1]).sqrt()


def _weighted(losses: Tensor, weights: Tensor | None) -> Tensor:
    return losses.sum() if weights is None else (losses * weights).sum()
