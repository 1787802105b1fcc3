"""Stochastic depth."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Drop a whole residual branch for some samples of the batch (arXiv 1603.09382).

    Kept branches are scaled by 1 / (1 - rate), so that the expectation is unchanged.

    Args:
        rate: Share of samples that lose the branch in training, in [0, 1).
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"drop path rate must lie in [0, 1); got {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Map a branch (B, ...) to the branch with whole samples set to zero."""
        if self.rate == 0.0 or not self.training:
            return x
        keep = torch.rand(x.shape[0], device=x.device) >= self.rate
        scale = keep.to(x.dtype) / (1.0 - self.rate)
        return x * scale.view(-1, *[1] * (x.ndim - 1))

    def extra_repr(self) -> str:
        """Show the rate in ``print(model)``."""
        return f"rate={self.rate}"


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Rates of the layers: 0 in the first, ``rate`` in the last, linear between."""
    if depth == 1:
        return [0.0]
    return [rate * layer / (depth - 1) for layer in range(depth)]
