"""Deformable attention the way it reads in the paper: one ``grid_sample`` a level, weighed and added."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LevelSizes = tuple[tuple[int, int], ...]


def accumulation_dtype(values: Tensor) -> torch.dtype:
    """What values of this dtype are weighed and added in: float32, or float64 for float64."""
    return torch.promote_types(values.dtype, torch.float32)


def reference_form(values: Tensor, level_sizes: LevelSizes, locations: Tensor, weights: Tensor) -> Tensor:
    """Arguments and result as in `imglish.ops.deformable_attention.deformable_attention`."""
    batch, num_queries, heads = locations.shape[:3]
    dtype = accumulation_dtype(values)
    maps = values.to(dtype).permute(0, 2, 3, 1).flatten(0, 1)  # (B x heads, C, N)
    grids = 2 * locations.to(dtype).transpose(1, 2).flatten(0, 1) - 1  # (B x heads, Q, L, P, 2)
    shares = weights.to(dtype).transpose(1, 2).flatten(0, 1)  # (B x heads, Q, L, P)
    total = maps.new_zeros(batch * heads, values.shape[-1], num_queries)
    by_level = maps.split([height * width for height, width in level_sizes], dim=2)
    for level, (pixels, size) in enumerate(zip(by_level, level_sizes, strict=True)):
        sampled = F.grid_sample(
            pixels.unflatten(2, size),
            grids[:, :, level],
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        total = total + (sampled * shares[:, None, :, level]).sum(dim=-1)
    by_head = total.view(batch, heads * values.shape[-1], num_queries)
    return by_head.transpose(1, 2).to(values.dtype)
