"""Initial weights: functions that a model calls once in its constructor."""

from __future__ import annotations

import math

from torch import Tensor, nn


def init_linear(module: nn.Module, *, std: float = 0.02, cut: float = 2.0) -> None:
    """Give every linear and embedding-like convolution of ``module`` small normal weights, zero biases.

    Args:
        module: Searched recursively; norms and bare parameters are left alone.
        std: Standard deviation before truncation.
        cut: Weights are truncated at ``cut`` standard deviations. The released BEiT-3 fine-tuning code
            cuts at 1 (measured deviation 0.0108); most others at 2 or not at all.
    """
    for child in module.modules():
        if isinstance(child, nn.Linear):
            truncated_normal_(child.weight, std=std, cut=cut)
            if child.bias is not None:
                nn.init.zeros_(child.bias)


def truncated_normal_(tensor: Tensor, *, std: float = 0.02, cut: float = 2.0) -> None:
    """Fill in place from N(0, std^2) truncated at ``cut`` standard deviations."""
    nn.init.trunc_normal_(tensor, std=std, a=-cut * std, b=cut * std)


def rescale_output(linear: nn.Linear, layer: int) -> None:
    """Divide the weights of a block's last linear by sqrt(2 l), l counted from 1 (BEiT-3, section 2.3)."""
    if layer < 1:
        raise ValueError(f"layers count from 1; got {layer}")
    linear.weight.data.div_(math.sqrt(2.0 * layer))
