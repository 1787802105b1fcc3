"""Where a patch is: a bias on attention by offset (BEiT, section 3.1), and resampled absolute positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RelativePositionBias(nn.Module):
    """A learned bias for each head and each offset between two patches.

    The table has a row for each of the (2 rows - 1) x (2 columns - 1) offsets, and three last rows: class
    token to patch, patch to class token, class token to itself.

    Args:
        grid_size: (rows, columns) of patches.
        num_heads: Attention heads.
    """

    def __init__(self, grid_size: tuple[int, int], num_heads: int) -> None:
        super().__init__()
        rows, columns = grid_size
        self.table = nn.Parameter(torch.zeros((2 * rows - 1) * (2 * columns - 1) + 3, num_heads))
        self.register_buffer("index", relative_position_index(grid_size), persistent=False)
        self.index: Tensor

    def forward(self) -> Tensor:
        """Bias (heads, 1 + N, 1 + N), rows are queries, class token first."""
        bias: Tensor = self.table[self.index].permute(2, 0, 1)
        return bias


def relative_position_index(grid_size: tuple[int, int]) -> Tensor:
    """Row of the table for each pair of query and key, int64 (1 + N, 1 + N), class token first."""
    rows, columns = grid_size
    num_offsets = (2 * rows - 1) * (2 * columns - 1)
    y = torch.arange(rows).repeat_interleave(columns)
    x = torch.arange(columns).repeat(rows)
    index = torch.empty(1 + rows * columns, 1 + rows * columns, dtype=torch.int64)
    below, right = y[:, None] - y + rows - 1, x[:, None] - x + columns - 1
    index[1:, 1:] = below * (2 * columns - 1) + right
    index[0, :] = num_offsets
    index[:, 0] = num_offsets + 1
    index[0, 0] = num_offsets + 2
    return index


def resample_positions(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Fit a table of absolute positions to another grid, as BEiT v2 does at run time.

    Args:
        positions: (1, 1 + rows x columns, C), class token first, which stays as it is.
        old: Its (rows, columns).
        new: The (rows, columns) wanted.

    Returns:
        (1, 1 + new rows x new columns, C), bicubic. The scale is that of a tenth of a patch more, as in the
        official code; sampling by the sizes alone gives slightly other values.
    """
    if old == new:
        return positions
    grid = positions[:, 1:].transpose(1, 2).unflatten(2, old)
    scale = ((new[0] + 0.1) / old[0], (new[1] + 0.1) / old[1])
    grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
