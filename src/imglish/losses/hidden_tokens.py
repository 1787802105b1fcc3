"""The loss of masked modelling: naming the tokens at hidden places."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from imglish.ops.precision import at_least_fp32


def summed_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of predictions (M, V) against tokens int64 (M,), summed, not averaged.

    Where nothing is hidden (M = 0) it is 0 and keeps the head in the graph, as data parallelism wants.
    """
    if len(target) == 0:
        return logits.sum() * 0.0
    return F.cross_entropy(at_least_fp32(logits), target, reduction="sum")
