"""Symmetric InfoNCE between pictures and texts (parity FACTS, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.ops.gather import gather_with_gradient


def contrastive_loss(vision: Tensor, text: Tensor, logit_scale: Tensor) -> Tensor:
    """Let each picture find its text and each text its picture among the batches of all ranks.

    Args:
        vision: Unit vectors (B, C) of this rank's pictures.
        text: Unit vectors (B, C) of their texts, in the same order.
        logit_scale: Factor of the cosines, already exponentiated.

    Returns:
        Mean of both cross entropies, a scalar. Features of other ranks are gathered with gradients, so
        that the gradient equals that of one rank with the whole batch.
    """
    all_vision, all_text = gather_with_gradient(vision), gather_with_gradient(text)
    first = _rank_offset(vision, all_vision)
    targets = torch.arange(first, first + vision.shape[0], device=vision.device)
    to_text = F.cross_entropy(logit_scale * vision @ all_text.T, targets)
    to_vision = F.cross_entropy(logit_scale * text @ all_vision.T, targets)
    return (to_text + to_vision) / 2


def _rank_offset(local: Tensor, gathered: Tensor) -> int:
    if gathered.shape[0] == local.shape[0]:
        return 0
    return torch.distributed.get_rank() * local.shape[0]
