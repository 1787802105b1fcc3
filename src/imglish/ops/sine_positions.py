"""Positions of a map's cells as sines and cosines (DETR, arXiv 2005.12872)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sine_positions(padding: Tensor, width: int, *, temperature: float = 10000.0, eps: float = 1e-6) -> Tensor:
    """Encode where each cell lies among those that are not padded.

    Rows and columns are counted from 1 and scaled so that the last one is 2 pi.

    Args:
        padding: bool (B, H, W), True where padded.
        width: Channels, a multiple of four: the first half tells the row, the second the column; within
            each, even channels are sines and odd ones cosines.
        temperature: Ratio of the longest wavelength to the shortest.
        eps: Added to the number of the last row and column before dividing by it.

    Returns:
        float32 (B, width, H, W).

    Raises:
        ValueError: The width is no multiple of four.
    """
    if width % 4:
        raise ValueError(f"width {width} is no multiple of four")
    inside = (~padding).float()
    half = width // 2
    exponents = 2 * torch.div(torch.arange(half, device=padding.device), 2, rounding_mode="floor") / half
    wavelengths = temperature**exponents
    encoded = []
    for axis in (1, 2):
        counted = inside.cumsum(axis)
        last = counted[:, -1:, :] if axis == 1 else counted[:, :, -1:]
        angles = (counted / (last + eps) * 2 * math.pi)[..., None] / wavelengths
        encoded.append(torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1).flatten(-2))
    return torch.cat(encoded, dim=-1).permute(0, 3, 1, 2)


def grid_positions(size: tuple[int, int], width: int, device: torch.device | None = None) -> Tensor:
    """The same for a map (height, width) ``size`` without padding: float32 (1, width, *size)."""
    return sine_positions(torch.zeros(1, *size, dtype=torch.bool, device=device), width)
