"""How much each token of a plain ViT's block looks at each other one.

Shapes: B batch, N patches, P prefix tokens (the class token, if there is one), C width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from imglish.models.vit.block import Attention
from imglish.ops.linear import linear


def attention_weights(
    attention: Attention, x: Tensor, grid: tuple[int, int], bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Repeat the arithmetic of an attention up to its weights, from its own projections.

    Args:
        attention: Of a block that sees the whole picture.
        x: Tokens (B, P + N, C) as the attention gets them, after the block's first norm.
        grid: (rows, columns) of the patches.
        bias: Added to the attention logits, (heads, P + N, P + N), where all blocks share a table.

    Returns:
        Weights (B, heads, P + N, P + N), rows are queries and sum to 1; values (B, heads, P + N, C / heads).

    Raises:
        ValueError: The attention looks within windows.
    """
    if attention.window:
        raise ValueError(
            f"this attention looks within windows of {attention.window} patches, not at them all"
        )
    own: Tensor | None = attention.qkv.bias
    if attention.query_bias is not None and attention.value_bias is not None:
        own = torch.cat([attention.query_bias, torch.zeros_like(attention.query_bias), attention.value_bias])
    qkv = linear(x, attention.qkv.weight, own)
    query, key, value = qkv.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    if attention.relative_positions is not None:
        bias = attention.relative_positions(grid)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias[None].to(scores.dtype)
    return scores.softmax(dim=-1), value
