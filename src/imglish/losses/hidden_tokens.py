"""The loss of masked modelling: naming the tokens at hidden places."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def summed_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of predictions (M, V) against tokens int64 (M,), summed, not averaged.

    Where nothing is hidden (M = 0) it is 0 and keeps the head in the graph, as data parallelism wants.
    """
    if len(target) == 0:
        return logits.sum() * 0.0
    # Float64 stays as it is; bf16 is too coarse for a sum.
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(exact, target, reduction="sum")
