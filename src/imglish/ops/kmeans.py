"""k-means on the unit sphere."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def spherical_kmeans(samples: Tensor, means: Tensor, *, num_iterations: int = 10) -> tuple[Tensor, Tensor]:
    """Refine unit means by cosine similarity, as BEiT v2 starts its codebook.

    Args:
        samples: Unit vectors (M, C).
        means: Unit vectors (K, C) to start from.
        num_iterations: Rounds of assignment and averaging.

    Returns:
        Unit means (K, C), and how many samples each had in the last round, int64 (K,). A mean without
        samples stays where it is.
    """
    counts = torch.zeros(len(means), dtype=torch.int64, device=samples.device)
    for _ in range(num_iterations):
        nearest = (samples @ means.T).argmax(dim=1)
        counts = torch.bincount(nearest, minlength=len(means))
        sums = torch.zeros_like(means).index_add_(0, nearest, samples)
        averages = F.normalize(sums / counts.clamp(min=1)[:, None], dim=1)
        means = torch.where((counts == 0)[:, None], means, averages)
    return means, counts
