"""Who may look at whom: masks for attention, as bool tensors that are True where looking is allowed."""

from __future__ import annotations

import torch
from torch import Tensor

from imglish.structures.tokens import TokenLayout


def key_mask(padding: Tensor) -> Tensor:
    """Let nobody look at padded keys.

    Args:
        padding: bool (B, N), True where padded.

    Returns:
        bool (B, 1, 1, N), True where the key may be seen.
    """
    return ~padding[:, None, None, :]


def prefix_causal_mask(layout: TokenLayout, device: torch.device | None = None) -> Tensor:
    """Vision sees vision; text sees vision and the text up to itself (BEiT-3, section 2.2, generation).

    Returns:
        bool (N, N), rows are queries, True where the key may be seen.
    """
    n = layout.num_tokens
    query = torch.arange(n, device=device)[:, None]
    key = torch.arange(n, device=device)[None, :]
    return (key < layout.num_vision) | ((key <= query) & (query >= layout.num_vision))


def merge_masks(*masks: Tensor | None) -> Tensor | None:
    """Allow what every given mask allows; None where no mask is given."""
    merged: Tensor | None = None
    for mask in masks:
        if mask is not None:
            merged = mask if merged is None else merged & mask
    return merged
