"""How much of a codebook is in use."""

from __future__ import annotations

import torch
from torch import Tensor

from imglish.metrics.base import sum_over_ranks


class CodebookUsage:
    """Share of codes used and perplexity of their use, and the mean cosine to the teacher.

    Args:
        codebook_size: Number of codes.
    """

    def __init__(self, codebook_size: int) -> None:
        self._size = codebook_size
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._counts = torch.zeros(self._size, dtype=torch.float64)
        self._cosine = torch.zeros(2, dtype=torch.float64)

    def update(self, token_ids: Tensor, cosine: Tensor) -> None:
        """Count token ids int64 (B, N), and the cosines (B, N) of what was rebuilt from them."""
        self._counts += torch.bincount(token_ids.flatten().cpu(), minlength=self._size)
        total = float(cosine.cpu().double().sum())
        self._cosine += torch.tensor([total, cosine.numel()], dtype=torch.float64)

    def reduce(self) -> None:
        """Sum over ranks."""
        self._counts, self._cosine = sum_over_ranks(self._counts), sum_over_ranks(self._cosine)

    def compute(self) -> dict[str, float]:
        """``codebook/usage`` in [0, 1], ``codebook/perplexity`` from 1, ``codebook/cosine`` in [-1, 1].

        Nothing where nothing was counted.
        """
        if not self._counts.any():
            return {}
        return {
            "codebook/usage": float((self._counts > 0).double().mean()),
            "codebook/perplexity": float(perplexity(self._counts)),
            "codebook/cosine": float(self._cosine[0] / self._cosine[1]),
        }


def perplexity(counts: Tensor) -> Tensor:
    """Exponential of the entropy of counts (K,), a scalar: how many codes are used as if evenly."""
    share = counts / counts.sum()
    result: Tensor = torch.special.entr(share).sum().exp()
    return result
