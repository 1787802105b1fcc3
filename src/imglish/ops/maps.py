"""Tokens as maps."""

from __future__ import annotations

from torch import Tensor


def as_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Tokens (B, h x w, C), row by row, as a map (B, C, h, w) with its channels last in memory; a view.

    ``tokens.transpose(1, 2).unflatten(2, size)`` has the same numbers in the same places, but torch does not
    know it for a map with channels last where there is one picture: the stride of a dimension of one comes
    out otherwise. What follows then runs in slower kernels and gives maps with their channels first.
    """
    x: Tensor = tokens.unflatten(1, size).permute(0, 3, 1, 2)
    return x
