"""Means over the cells of a coarse grid, for maps of any size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def grid_means(x: Tensor, cells: int) -> Tensor:
    """Means of a map over a square grid, whose cells overlap where it does not divide (PSPNet's pooling).

    While a graph is exported they are two products with matrices of shares, which standard ONNX operators
    know at any size; otherwise ``adaptive_avg_pool2d``.

    Args:
        x: (B, C, H, W).
        cells: Rows and columns of the grid.

    Returns:
        (B, C, cells, cells).
    """
    if not torch.compiler.is_exporting():
        return F.adaptive_avg_pool2d(x, cells)
    down, right = (_shares(length, cells, x) for length in (x.shape[-2], x.shape[-1]))
    return down @ x @ right.T


def _shares(length: int, cells: int, like: Tensor) -> Tensor:
    """Share (cells, length) of each place in the mean of each cell, which goes from floor to ceiling."""
    cell = torch.arange(cells, device=like.device)[:, None]
    place = torch.arange(length, device=like.device)
    start, stop = cell * length // cells, ((cell + 1) * length + cells - 1) // cells
    inside = (start <= place) & (place < stop)
    return inside.to(like.dtype) / (stop - start).to(like.dtype)
