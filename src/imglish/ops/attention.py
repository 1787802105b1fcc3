"""Masks for attention, True where looking is allowed, and attention to keys that several rows share."""

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


def attend_with_shared(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    shared_keys: Tensor,
    shared_values: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    """Attention to shared keys and to own ones, as if each row held a copy of the shared ones before its own.

    The beams of a picture share what was seen of the picture: nothing is copied for each of them.

    Args:
        query: (R, heads, T, D).
        keys: Own keys (R, heads, N, D).
        values: Own values, the same.
        shared_keys: (P, heads, S, D); the rows of P equal groups, one after the other, share one entry each.
        shared_values: The same.
        mask: bool, broadcastable to (R, heads, T, N), True where an own key may be seen; shared ones are.

    Returns:
        (R, heads, T, D).
    """
    length, dim = query.shape[2:]
    groups = shared_keys.shape[0]

    def by_group(x: Tensor) -> Tensor:
        """(R, heads, T, X) to (P, heads, R / P T, X)."""
        grouped: Tensor = x.unflatten(0, (groups, -1)).transpose(1, 2).flatten(2, 3)
        return grouped

    def by_row(x: Tensor) -> Tensor:
        """The way back."""
        rows: Tensor = x.unflatten(2, (-1, length)).transpose(1, 2).flatten(0, 1)
        return rows

    query = query * dim**-0.5
    to_shared = by_row(by_group(query) @ shared_keys.transpose(-1, -2))
    to_own = query @ keys.transpose(-1, -2)
    if mask is not None:
        to_own = to_own.masked_fill(~mask, -torch.inf)
    weights = torch.cat([to_shared, to_own], dim=-1).softmax(dim=-1)
    from_shared, from_own = weights.split([to_shared.shape[-1], to_own.shape[-1]], dim=-1)
    y: Tensor = by_row(by_group(from_shared) @ shared_values) + from_own @ values
    return y
