"""How much each token of a BEiT-3 block looks at each other one: the weights that fast attention never forms.

Shapes: B batch, N tokens (vision first, then text), C width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from imglish.nn.attention import KeyValue, MultiwayAttention
from imglish.structures.tokens import TokenLayout


def attention_weights(
    attention: MultiwayAttention,
    x: Tensor,
    layout: TokenLayout,
    mask: Tensor | None = None,
    past: KeyValue | None = None,
) -> tuple[Tensor, Tensor]:
    """Repeat the arithmetic of an attention up to its weights, from its own projections.

    Softmax of the scaled products of queries and keys: what ``F.scaled_dot_product_attention`` multiplies
    with the values. The module is left as it is.

    Args:
        attention: Of a block; it also serves as the giant's, whose projections are shared among modalities.
        x: Tokens (B, N, C) as the attention gets them, after the block's first norm.
        layout: Their modalities.
        mask: bool, broadcastable to (B, heads, N, M + N), True where the key may be seen.
        past: Keys and values of M earlier tokens, which come first; None where there are none.

    Returns:
        Weights (B, heads, N, M + N), rows are queries and sum to 1; values (B, heads, M + N, C / heads).
    """
    query, key, value = (
        projection(x, layout).unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
        for projection in (attention.query, attention.key, attention.value)
    )
    if past is not None:
        key, value = torch.cat([past.keys, key], dim=2), torch.cat([past.values, value], dim=2)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1), value
