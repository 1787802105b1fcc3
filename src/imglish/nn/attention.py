"""Self-attention whose projections are routed by modality."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.nn.linear import Linear
from imglish.ops.attention import attend_with_shared
from imglish.structures.tokens import TokenLayout

Route = Callable[[Callable[[], nn.Module]], nn.Module]  # Multiway or Shared


class KeyValue(NamedTuple):
    """Keys and values of the tokens seen so far, each (B, heads, N, head_dim)."""

    keys: Tensor
    values: Tensor

    def select(self, rows: Tensor) -> KeyValue:
        """Keep the batch rows ``rows`` int64 (B',), in that order (beam search reorders its beams)."""
        return KeyValue(self.keys[rows], self.values[rows])

    def first(self, num_tokens: int) -> KeyValue:
        """Keep the first ``num_tokens`` tokens."""
        return KeyValue(self.keys[:, :, :num_tokens], self.values[:, :, :num_tokens])


class MultiwayAttention(nn.Module):
    """Multi-head self-attention over all tokens of a sequence.

    Attention itself is joint; whether its projections differ by modality is the choice of ``route``
    (`Multiway` in the released base and large, `Shared` in the paper's giant).

    Args:
        width: Features of a token.
        num_heads: Heads; must divide the width.
        route: Wraps the maker of each projection.
        inner_norm: True normalises the concatenated heads before the output projection (sub-LN).
        eps: Epsilon of that norm.
    """

    def __init__(
        self, *, width: int, num_heads: int, route: Route, inner_norm: bool, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = route(lambda: Linear(width, width))
        self.key = route(lambda: Linear(width, width))
        self.value = route(lambda: Linear(width, width))
        self.inner_norm = route(lambda: nn.LayerNorm(width, eps=eps)) if inner_norm else None
        self.output = route(lambda: Linear(width, width))

    def forward(self, x: Tensor, layout: TokenLayout, mask: Tensor | None = None) -> Tensor:
        """Let tokens (B, N, C) look at each other.

        Args:
            x: Tokens (B, N, C).
            layout: Their modalities.
            mask: bool, broadcastable to (B, heads, N, N), True where the key may be seen.
        """
        y, _ = self.extend(x, layout, past=None, mask=mask)
        return y

    def extend(
        self,
        x: Tensor,
        layout: TokenLayout,
        past: KeyValue | None,
        mask: Tensor | None,
        shared: KeyValue | None = None,
    ) -> tuple[Tensor, KeyValue]:
        """Let new tokens look at earlier ones and at each other.

        Args:
            x: New tokens (B, N, C).
            layout: Modalities of the new tokens.
            past: Keys and values of M earlier tokens, or None.
            mask: bool, broadcastable to (B, heads, N, M + N).
            shared: Keys and values of still earlier tokens that equal groups of rows share, all to be seen.

        Returns:
            The new tokens (B, N, C), and keys and values of all M + N tokens.
        """
        query = self._heads(self.query(x, layout))
        key = self._heads(self.key(x, layout))
        value = self._heads(self.value(x, layout))
        if past is not None:
            key = torch.cat([past.keys, key], dim=2)
            value = torch.cat([past.values, value], dim=2)
        if shared is None:
            y = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        else:
            y = attend_with_shared(query, key, value, shared.keys, shared.values, mask)
        y = y.transpose(1, 2).flatten(2)
        if self.inner_norm is not None:
            y = self.inner_norm(y, layout)
        return self.output(y, layout), KeyValue(key, value)

    def _heads(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        return heads
