"""Deformable attention as weighted sums of rows: every sample is four rows of the values.

A bilinear sample is four pixels with four shares, so that the answer to a query is one weighted sum of
4 x L x P rows of C numbers that lie side by side. On a CPU ``embedding_bag`` reads and adds them in one pass;
what ``grid_sample`` writes, reads and weighs again, channel by channel, is never made. Written with gathers
the same sums need nothing but standard ONNX operators, with no size fixed.

Shapes: B batch, N pixels of all levels, Q queries, L levels, P points, C channels of one head.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.ops.deformable.reference import LevelSizes, accumulation_dtype


def gather_form(values: Tensor, level_sizes: LevelSizes, locations: Tensor, weights: Tensor) -> Tensor:
    """Arguments and result as in `imglish.ops.deformable_attention.deformable_attention`."""
    batch, num_queries, heads = locations.shape[:3]
    rows, shares = _rows_and_shares(values, level_sizes, locations, weights)
    if not rows.numel() or not values.numel():  # embedding_bag refuses a table without rows
        return _weighted_rows(values, rows, shares, locations.shape[1])
    table = values.to(shares.dtype).reshape(-1, values.shape[-1])
    summed = F.embedding_bag(rows, table, mode="sum", per_sample_weights=shares)
    return summed.view(batch, num_queries, heads * values.shape[-1]).to(values.dtype)


def export_form(values: Tensor, level_sizes: LevelSizes, locations: Tensor, weights: Tensor) -> Tensor:
    """Arguments and result as in `imglish.ops.deformable_attention.deformable_attention`."""
    rows, shares = _rows_and_shares(values, level_sizes, locations, weights)
    return _weighted_rows(values, rows, shares, locations.shape[1])


def _weighted_rows(values: Tensor, rows: Tensor, shares: Tensor, num_queries: int) -> Tensor:
    """The rows read one after the other, then weighed and added."""
    batch, _, heads, channels = values.shape
    table = values.to(shares.dtype).flatten(0, 2)
    read = table.index_select(0, rows.flatten()).unflatten(0, rows.shape)  # (B x Q x heads, 4 x L x P, C)
    summed = (shares[..., None] * read).sum(dim=1)
    y: Tensor = summed.view(batch, num_queries, heads * channels).to(values.dtype)
    return y


def _rows_and_shares(
    values: Tensor, level_sizes: LevelSizes, locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Four rows and shares for each sample, share times weight; a corner outside has share 0.

    Returns:
        int32 rows of the values as a table (B x N x heads, C), and shares; both (B x Q x heads, 4 x L x P).
    """
    batch, num_pixels, heads, _ = values.shape
    num_queries, _, num_levels, num_points = locations.shape[1:5]
    dtype, device = accumulation_dtype(values), values.device
    columns, lines = locations.to(dtype).unbind(dim=-1)
    starts, sizes, start = [], list(level_sizes), 0
    for height, width in sizes:
        starts.append(start)
        start = start + height * width
    widths = _by_level([width for _, width in sizes], torch.int32, device)
    heights = _by_level([height for height, _ in sizes], torch.int32, device)
    left, right, left_share, right_share = _neighbours(columns, widths)
    top, bottom, top_share, bottom_share = _neighbours(lines, heights)
    left_share, right_share = left_share * weights, right_share * weights

    first = torch.arange(batch, dtype=torch.int32, device=device).view(-1, 1, 1, 1, 1) * num_pixels
    first = (first + _by_level(starts, torch.int32, device)) * heads
    first = first + torch.arange(heads, dtype=torch.int32, device=device)[:, None, None]
    pitch = widths * heads
    top, bottom = top * pitch + first, bottom * pitch + first
    left, right = left * heads, right * heads
    rows = torch.stack([top + left, top + right, bottom + left, bottom + right], dim=-1)
    shares = torch.stack(
        [
            top_share * left_share,
            top_share * right_share,
            bottom_share * left_share,
            bottom_share * right_share,
        ],
        dim=-1,
    )
    bags = (batch * num_queries * heads, 4 * num_levels * num_points)
    return rows.reshape(bags), shares.reshape(bags)


def _neighbours(places: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The pixels before and behind each place on one axis, inside the level, and their shares.

    Args:
        places: (..., L, P) in units of the level.
        sizes: int32 (L, 1).
    """
    place = places * sizes.to(places.dtype) - 0.5
    before = place.floor()
    share = place - before
    # Compared as floats and clamped as integers: neither a huge place nor NaN becomes an index outside.
    behind_share = share * ((before >= -1) & (before < sizes - 1))
    before_share = (1 - share) * ((before >= 0) & (before < sizes))
    index = before.to(torch.int32)
    last = sizes - 1
    lower = index.clamp(min=0).minimum(last)
    upper = (index + 1).clamp(min=0).minimum(last)
    return lower, upper, before_share, behind_share


def _by_level(numbers: list[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """One number a level as (L, 1). Filled, not copied: sizes stay symbolic where a graph is recorded."""
    return torch.stack([torch.full((1,), number, dtype=dtype, device=device) for number in numbers])
