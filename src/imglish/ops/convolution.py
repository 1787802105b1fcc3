"""A convolution and the batch norm behind it as one convolution, where nothing is learned."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def folding_pays(x: Tensor) -> bool:
    """Whether a norm is worth folding: on a CPU, where it is a pass over memory, and no gradient is wanted.

    Recorded graphs keep both: who runs them folds by himself.
    """
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def normalised_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    mean: Tensor,
    variance: Tensor,
    scale: Tensor,
    shift: Tensor,
    eps: float,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:
    """Convolve, then normalise by known statistics; the same within rounding, in one pass.

    Args:
        x: (B, inputs, H, W).
        weight: (outputs, inputs, kernel, kernel).
        bias: (outputs,) or None.
        mean: (outputs,) of what is convolved.
        variance: (outputs,).
        scale: (outputs,), what is normalised is multiplied by.
        shift: (outputs,), what is added then.
        eps: Added to the variance.
        stride: Of the convolution.
        padding: Of the convolution.

    Returns:
        (B, outputs, H', W').
    """
    factor = scale * torch.rsqrt(variance + eps)
    offset = shift - mean * factor if bias is None else shift + (bias - mean) * factor
    return F.conv2d(x, weight * factor[:, None, None, None], offset, stride, padding)
