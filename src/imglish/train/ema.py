"""Averaged weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Ema:
    """Exponential moving average of a model's parameters; buffers are copied.

    Args:
        model: Averaged; the average starts at its present weights.
        decay: Share of the old average that each update keeps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's weights."""
        for name, tensor in model.state_dict().items():
            average = self.weights[name]
            if average.is_floating_point():
                average.lerp_(tensor, 1.0 - self.decay)
            else:
                average.copy_(tensor)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take over a saved average."""
        for name, tensor in weights.items():
            self.weights[name].copy_(tensor)
