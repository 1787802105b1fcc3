"""Losses of independent classes, most of which are background: focal loss and its kin, summed."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from imglish.ops.precision import at_least_fp32


def summed_focal(logits: Tensor, labels: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss (arXiv 1708.02002), summed.

    Args:
        logits: (N, num_classes).
        labels: int64 (N,), below zero for background.
        alpha: Weight of a pair of place and class that is right; 1 - alpha of one that is wrong.
        gamma: How fast what is easy loses weight.
    """
    logits = at_least_fp32(logits)
    wanted = _one_hot(labels, logits)
    shares = logits.sigmoid()
    off = shares * (1 - wanted) + (1 - shares) * wanted
    weights = (alpha * wanted + (1 - alpha) * (1 - wanted)) * off.pow(gamma)
    return (weights * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")).sum()


def summed_quality_focal(logits: Tensor, labels: Tensor, qualities: Tensor, *, beta: float = 2.0) -> Tensor:
    """Quality focal loss (arXiv 2006.04388), summed: the score of a class is how good its box is.

    Args:
        logits: (N, num_classes).
        labels: int64 (N,), below zero for background.
        qualities: (N,) in [0, 1], IoU of the found box with the annotated one; of background not looked at.
        beta: How fast what is nearly right loses weight.
    """
    logits = at_least_fp32(logits)
    wanted = _one_hot(labels, logits) * qualities.to(logits.dtype)[:, None]
    off = (wanted - logits.sigmoid()).abs()
    return (off.pow(beta) * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")).sum()


def summed_binary_cross_entropy(logits: Tensor, wanted: Tensor, weights: Tensor | None = None) -> Tensor:
    """Binary cross entropy of logits with shares in [0, 1] of the same shape, summed.

    Args:
        logits: Any shape.
        wanted: Of the same shape.
        weights: Of the same shape; None counts all alike.
    """
    logits = at_least_fp32(logits)
    return F.binary_cross_entropy_with_logits(logits, wanted.to(logits.dtype), weights, reduction="sum")


def _one_hot(labels: Tensor, logits: Tensor) -> Tensor:
    """(N, num_classes) of ones and zeros, all zeros for background."""
    wanted = logits.new_zeros(logits.shape)
    return wanted.scatter_(1, labels.clamp(min=0)[:, None], (labels >= 0)[:, None].to(logits.dtype))
