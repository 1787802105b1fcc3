"""Numbers as exact as sums want them."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_fp32(x: Tensor) -> Tensor:
    """A tensor in float32, or in float64 where it is so already; bf16 and fp16 are too coarse for a loss."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
