"""Weights in a byte a number, for what ships in the package."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_SCALE = ".scale_of_rows"  # behind the name of what is packed
_LEAST = 1024  # smaller tensors stay in two bytes a number
_LARGEST = 127


def pack_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and filters as int8 with a factor for each row, all other floats as fp16.

    Numbers of a row are off by half of a 127th of its largest at most.

    Args:
        weights: By name.

    Raises:
        ValueError: A number is infinite or none.
    """
    packed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if not weight.is_floating_point():
            packed[name] = weight
            continue
        if not bool(torch.isfinite(weight).all()):
            raise ValueError(f"{name} holds what is no number; weights cannot be packed")
        if weight.ndim < 2 or weight.numel() < _LEAST:
            packed[name] = weight.half()
            continue
        rows = weight.float().flatten(1)
        scale = rows.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float).tiny) / _LARGEST
        packed[name] = (rows / scale).round().to(torch.int8).reshape(weight.shape)
        packed[name + _SCALE] = scale[:, 0]
    return packed


def unpack_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they were before `pack_weights`, but for rounding; what is not packed stays as it is."""
    unpacked: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name.endswith(_SCALE):
            continue
        scale = weights.get(name + _SCALE)
        if scale is None or weight.dtype != torch.int8:
            unpacked[name] = weight
        else:
            unpacked[name] = weight.float() * scale.reshape(-1, *[1] * (weight.ndim - 1))
    return unpacked
