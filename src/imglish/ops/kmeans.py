"""k-means on the unit sphere."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

_AT_ONCE = 16_384  # samples compared with all means at a time: 0.5 GB for 8192 means


def spherical_kmeans(
    samples: Tensor,
    means: Tensor,
    *,
    num_iterations: int = 10,
    sum_over_ranks: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Refine unit means by cosine similarity, as BEiT v2 starts its codebook.

    Args:
        samples: Unit vectors (M, C).
        means: Unit vectors (K, C) to start from.
        num_iterations: Rounds of assignment and averaging.
        sum_over_ranks: Sums a tensor over the processes that hold a part of the samples each, and start from
            the same means; None where one process holds all.

    Returns:
        Unit means (K, C), and how many samples each had in the last round, int64 (K,). A mean without
        samples stays where it is.
    """
    counts = torch.zeros(len(means), dtype=torch.int64, device=samples.device)
    for _ in range(num_iterations):
        nearest = torch.cat([(part @ means.T).argmax(dim=1) for part in samples.split(_AT_ONCE)])
        counts = torch.bincount(nearest, minlength=len(means))
        sums = torch.zeros_like(means).index_add_(0, nearest, samples)
        if sum_over_ranks is not None:
            counts, sums = sum_over_ranks(counts), sum_over_ranks(sums)
        averages = F.normalize(sums / counts.clamp(min=1)[:, None], dim=1)
        means = torch.where((counts == 0)[:, None], means, averages)
    return means, counts
