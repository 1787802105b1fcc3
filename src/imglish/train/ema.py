"""Averaged weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Ema:
    """Exponential moving average of a model's parameters; buffers are copied.

    Args:
        model: Averaged, whole or sharded; the average starts at its present weights, spread as they are.
        decay: Share of the old average that each update keeps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's weights."""
        for name, tensor in model.state_dict().items():
            average = local(self.weights[name])
            if average.is_floating_point():
                average.lerp_(local(tensor), 1.0 - self.decay)
            else:
                average.copy_(local(tensor))


def local(tensor: Tensor) -> Tensor:
    """This rank's share of a tensor that is spread over the ranks; others as they are."""
    local: Tensor = tensor.tolocal() if hasattr(tensor, "tolocal") else tensor
    return local
