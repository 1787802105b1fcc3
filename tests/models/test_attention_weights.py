"""Attention's weights, computed once more, times its values are what the block's own attention gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from imglish.models.beit3 import attention_weights as beit3
from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.encoder import Beit3Encoder, Block
from imglish.models.vit import attention_weights as vit
from imglish.models.vit.block import Attention
from imglish.models.vit.config import ViTConfig
from imglish.nn.attention import MultiwayAttention
from imglish.ops.attention import key_mask, prefix_causal_mask
from imglish.structures.tokens import TokenLayout

TOLERANCE = 1e-5  # sums in another order than the fused product's
SMALL = Beit3Config(
    image_size=(16, 16), patch_size=8, vocab_size=20, max_text_tokens=8, width=16, depth=2, num_heads=4,
    feed_forward_width=16, init="scaled",
)  # fmt: skip
GIANT = replace(SMALL, split_attention=False, sub_norm=False, num_fusion_layers=1, init="paper")
LAYOUT = TokenLayout(num_vision=5, num_text=3)
PADDING = torch.tensor([[False] * 8, [False] * 6 + [True] * 2])


def own_output(attention: MultiwayAttention, weights: Tensor, values: Tensor) -> Tensor:
    y = (weights @ values).transpose(1, 2).flatten(2)
    if attention.inner_norm is not None:
        y = attention.inner_norm(y, LAYOUT)
    output: Tensor = attention.output(y, LAYOUT)
    return output


@pytest.mark.parametrize("config", [SMALL, GIANT], ids=["released form", "giant's form"])
@pytest.mark.parametrize("mask", [None, key_mask(PADDING), prefix_causal_mask(LAYOUT)])
@torch.no_grad()
def test_weights_times_values_are_beit3s_attention(config: Beit3Config, mask: Tensor | None) -> None:
    torch.manual_seed(0)
    block = Beit3Encoder(config).blocks[1]
    assert isinstance(block, Block)
    for parameter in block.parameters():  # norms and biases, which start as nothing, too
        parameter.normal_(0, 0.5)
    x = torch.randn(2, 8, 16)
    weights, values = beit3.attention_weights(block.attention, x, LAYOUT, mask)
    expected = block.attention(x, LAYOUT, mask)
    torch.testing.assert_close(own_output(block.attention, weights, values), expected, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4, 8))
    if mask is not None:
        assert bool((weights[~mask.expand(2, 4, 8, 8)] == 0).all())


@pytest.mark.parametrize(
    ("settings", "shared"),
    [
        ({}, False),
        ({"attention_bias": "all"}, False),
        ({"attention_bias": "none", "class_token": False}, False),
        ({"relative_positions": "per_block"}, False),
        ({}, True),
    ],
)
@torch.no_grad()
def test_weights_times_values_are_the_vits_attention(settings: dict[str, object], shared: bool) -> None:
    torch.manual_seed(0)
    config = replace(ViTConfig(image_size=(16, 24), patch_size=8, width=16, depth=1, num_heads=4), **settings)  # type: ignore[arg-type]
    attention = Attention(config)
    for parameter in attention.parameters():
        parameter.normal_(0, 0.5)
    tokens = 6 + int(config.class_token)
    x, bias = torch.randn(2, tokens, 16), torch.randn(4, tokens, tokens) if shared else None
    weights, values = vit.attention_weights(attention, x, (2, 3), bias)
    y = attention.output((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(y, attention(x, (2, 3), bias), atol=TOLERANCE, rtol=0)


def test_attention_within_windows_is_refused() -> None:
    config = ViTConfig(
        image_size=(32, 32), patch_size=8, width=16, depth=1, num_heads=4, class_token=False, windows=(2,)
    )
    with pytest.raises(ValueError, match="within windows of 2 patches"):
        vit.attention_weights(Attention(config, window=2), torch.randn(1, 16, 16), (4, 4))
