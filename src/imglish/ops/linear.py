"""Linear layers on a CPU: oneDNN's product in the place of MKL's where no gradient is wanted.

torch multiplies float32 matrices with MKL, which on an AMD processor uses half the width of its vectors, and
calls oneDNN, which uses all of it, for convolutions only. On such a machine the same product takes half the
time with oneDNN (docs/benchmarks/2026-11-21-vit-adapter-cpu.md).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Multiplications below which a call of oneDNN costs more than it saves: it compiles a kernel for each new
# shape, in about a millisecond.
_WORTH_A_KERNEL = 1 << 24


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Same as ``torch.nn.functional.linear``, within the rounding of float32.

    ``torch.backends.mkldnn.flags(enabled=False)`` goes back to torch's own choice.

    Args:
        x: (..., inputs).
        weight: (outputs, inputs).
        bias: (outputs,) or None.

    Returns:
        (..., outputs).
    """
    if _onednn_pays(x, weight):
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return y
    return F.linear(x, weight, bias)


def _onednn_pays(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN can compute this, and pays: no gradient, autocast or recorded graph, much to do."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and x.numel() * weight.shape[0] >= _WORTH_A_KERNEL
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )
