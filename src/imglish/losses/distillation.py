"""The loss of VQ-KD (BEiT v2, equation 2, without the codebook term that the moving average replaces)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def cosine_distance(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Mean of 1 - cos between rebuilt and teacher features, both (B, N, C)."""
    return (1 - F.cosine_similarity(reconstruction.float(), target.float(), dim=-1)).mean()


def commitment(features: Tensor, codes: Tensor) -> Tensor:
    """Mean squared distance from unit features (B, N, C) to their codes, which get no gradient."""
    return F.mse_loss(features, codes.detach())
