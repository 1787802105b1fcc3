"""Which number format to compute in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16", "bf16_params"]


def resolve_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16", "bf16_params"]:
    """``auto`` is bf16 on GPUs that have it, fp32 elsewhere: on most CPUs bf16 is emulated and slower."""
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context of forward passes; gradients and weights stay in fp32.

    With ``bf16_params`` it is for what surrounds the model, as frozen teachers: the model leaves it.
    """
    if resolve_precision(precision, device) == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
