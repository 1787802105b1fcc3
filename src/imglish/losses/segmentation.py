"""Pixel-wise losses."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from imglish.ops.precision import at_least_fp32

IGNORED_CLASS = 255


def pixel_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross entropy of labelled pixels, summed and divided by all pixels.

    That unlabelled ones count in the divisor is what the official code does (adapter FACTS, section 5); it
    also leaves a batch without a label at 0.

    Args:
        logits: (B, num_classes, h, w), upsampled bilinearly to the masks' size.
        masks: int64 (B, H, W), 255 where nothing is labelled.
    """
    exact = at_least_fp32(logits)
    logits = F.interpolate(exact, size=masks.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(logits, masks, ignore_index=IGNORED_CLASS, reduction="sum") / masks.numel()
