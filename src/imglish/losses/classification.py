"""Losses of picture classification and of statements about pictures (parity FACTS, section 4)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from imglish.ops.precision import at_least_fp32


def class_loss(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Cross entropy with one right class each, averaged over the batch.

    Args:
        logits: (B, num_classes).
        labels: int64 (B,), the right classes.
        smoothing: Mass in [0, 1] that is spread evenly over all classes, the right one included.
    """
    return F.cross_entropy(at_least_fp32(logits), labels, label_smoothing=smoothing)


def soft_class_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy with shares of several classes, as mixup and cutmix make them, averaged over the batch.

    Args:
        logits: (B, num_classes).
        targets: Shares float (B, num_classes), rows summing to 1; smoothed already where that is wanted.
    """
    exact = at_least_fp32(logits)
    return F.cross_entropy(exact, targets.to(exact.dtype))
