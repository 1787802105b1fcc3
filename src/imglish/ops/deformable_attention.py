"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159): sample, weigh, add.

Shapes: B batch, Q queries, L levels, P points, C channels of one head.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LevelSizes = tuple[tuple[int, int], ...]


def deformable_attention(
    values: Tensor, level_sizes: LevelSizes, locations: Tensor, weights: Tensor
) -> Tensor:
    """Weigh values sampled at given places: the reference form, one ``grid_sample`` a level.

    Args:
        values: (B, N, heads, C), the levels' pixels one after the other, row by row.
        level_sizes: (height, width) of each level; N is the sum of their products.
        locations: (B, Q, heads, L, P, 2) as (x, y) in units of the level, [0, 1] inside. Places outside
            see zeros.
        weights: (B, Q, heads, L, P), summing to one over L x P.

    Returns:
        (B, Q, heads x C).
    """
    batch, num_queries, heads = locations.shape[:3]
    by_level = values.split([height * width for height, width in level_sizes], dim=1)
    total = values.new_zeros(batch * heads, values.shape[-1], num_queries)
    for level, (height, width) in enumerate(level_sizes):
        maps = by_level[level].permute(0, 2, 3, 1).reshape(batch * heads, -1, height, width)
        grid = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)  # (B x heads, Q, P, 2)
        sampled = F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        weight = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)  # (B x heads, Q, P)
        total = total + (sampled * weight[:, None]).sum(dim=-1)
    return total.view(batch, -1, num_queries).transpose(1, 2)


def reference_points(level_sizes: LevelSizes, device: torch.device | None = None) -> Tensor:
    """Pixel centres of every level as (x, y) in [0, 1], one level after the other, row by row: (N, 2)."""
    points = []
    for height, width in level_sizes:
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        points.append(torch.stack([grid_x, grid_y], dim=-1).flatten(0, 1))
    return torch.cat(points)
