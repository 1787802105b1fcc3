"""What blocks of adapters' backbones have besides BEiT's: windows, biases, bottlenecks, no class token."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.models.vit.block import Attention, Block
from imglish.models.vit.config import AttentionBias, ViTConfig, WindowPadding
from imglish.models.vit.model import ViT
from imglish.models.vit.positions import resize_relative_positions

GRID = (3, 5)
CONFIG = ViTConfig(
    image_size=(24, 40), patch_size=8, width=8, depth=2, num_heads=2, mlp_ratio=2.0, class_token=False,
    absolute_positions=False, relative_positions="per_block", windows=(2, 2),
)  # fmt: skip
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}  # float32, summed in another order


def unsettled(module: Any) -> Any:
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=g))
    return module.eval()


def by_hand(attention: Attention, x: Tensor, window: int, padding: WindowPadding) -> Tensor:
    """Attention patch by patch over the patches of its window, padding written out."""
    width, heads = x.shape[-1], attention.num_heads
    bias = attention.qkv.bias
    if attention.query_bias is not None and attention.value_bias is not None:
        bias = torch.cat([attention.query_bias, torch.zeros(width), attention.value_bias])
    if bias is None:
        bias = torch.zeros(3 * width)
    projected = F.linear(x, attention.qkv.weight, bias).unflatten(1, GRID)
    outside = bias if padding == "input" else torch.zeros(3 * width)
    table = attention.relative_positions
    out = torch.zeros(len(x), *GRID, width)
    for row in range(GRID[0]):
        for column in range(GRID[1]):
            top, left = row // window * window, column // window * window
            logits, values = [], []
            query = projected[:, row, column, :width].unflatten(1, (heads, -1))
            for y in range(top, top + window):
                for z in range(left, left + window):
                    inside = y < GRID[0] and z < GRID[1]
                    seen = projected[:, y, z] if inside else outside.expand(len(x), -1)
                    key = seen[:, width : 2 * width].unflatten(1, (heads, -1))
                    logit = (query * key).sum(-1) / (width // heads) ** 0.5
                    if table is not None:
                        side = 2 * window - 1
                        place = (row - y + window - 1) * side + column - z + window - 1
                        logit = logit + table.table[place]
                    logits.append(logit)
                    values.append(seen[:, 2 * width :].unflatten(1, (heads, -1)))
            weights = torch.stack(logits).softmax(0)
            out[:, row, column] = (weights[..., None] * torch.stack(values)).sum(0).flatten(1)
    result: Tensor = attention.output(out.flatten(1, 2))
    return result


@pytest.mark.parametrize("padding", ["input", "projected"])
@pytest.mark.parametrize("bias", ["all", "query_value", "none"])
@pytest.mark.parametrize("relative", ["none", "per_block"])
def test_a_patch_sees_its_window_and_what_pads_it(
    padding: WindowPadding, bias: AttentionBias, relative: Any
) -> None:
    config = replace(CONFIG, window_padding=padding, attention_bias=bias, relative_positions=relative)
    attention = unsettled(Attention(config, window=2))
    x = torch.randn(2, 15, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(attention(x, GRID), by_hand(attention, x, 2, padding), **ROUNDING)


def test_a_window_over_the_whole_picture_without_padding_is_global_attention() -> None:
    config = replace(CONFIG, image_size=(24, 24), windows=(), relative_positions="per_block")
    whole, windowed = unsettled(Attention(config)), unsettled(Attention(config, window=3))
    x = torch.randn(2, 9, 8)
    torch.testing.assert_close(windowed(x, (3, 3)), whole(x, (3, 3)), **ROUNDING)


def test_blocks_share_the_index_of_their_tables_but_not_the_tables() -> None:
    vit = ViT(replace(CONFIG, depth=3, windows=(2, 3, 2)))
    tables = [block.attention.relative_positions for block in vit.blocks]  # type: ignore[union-attr]
    assert [len(bias.table) for bias in tables] == [9, 25, 9]  # type: ignore[union-attr]
    assert tables[0].index is tables[2].index and tables[0].table is not tables[2].table  # type: ignore[union-attr]


def test_a_bottleneck_starts_as_the_identity_and_then_sees_neighbours() -> None:
    config = replace(CONFIG, relative_positions="none", windows=())
    torch.manual_seed(0)
    plain, residual = Block(config, 0.0).eval(), Block(config, 0.0, bottleneck=True).eval()
    residual.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(1, 15, 8)
    assert torch.equal(residual(x, GRID), plain(x, GRID))
    assert residual.bottleneck is not None
    bottleneck = unsettled(residual.bottleneck)
    changed = x.clone()
    changed[:, 7] += 1  # the middle
    moved = (bottleneck(changed, GRID) != bottleneck(x, GRID)).any(-1).view(GRID)
    assert moved.tolist() == [[False, True, True, True, False]] * 3


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("relative", ["shared", "per_block"])
def test_another_picture_size_is_a_model_converted_to_that_size(class_token: bool, relative: Any) -> None:
    config = replace(
        CONFIG, windows=(), class_token=class_token, relative_positions=relative, resample_relative=True
    )
    vit = unsettled(ViT(config))
    images = torch.randn(1, 3, 32, 16, generator=torch.Generator().manual_seed(2))
    other = ViT(replace(config, image_size=(32, 16))).eval()
    state = vit.state_dict()
    for name in state:
        if name.endswith("table"):
            state[name] = resize_relative_positions(state[name], GRID, (4, 2), class_token=class_token)
    other.load_state_dict(state)
    torch.testing.assert_close(vit(images), other(images), **ROUNDING)
    with pytest.raises(ValueError, match=r"a grid of \(4, 2\) patches does not fit"):
        ViT(replace(config, resample_relative=False))(images)


def test_windows_take_pictures_of_any_size() -> None:
    assert unsettled(ViT(CONFIG))(torch.randn(1, 3, 32, 16)).shape == (1, 8, 8)


def test_positions_by_size_keep_an_unused_row_of_the_class_token() -> None:
    config = replace(
        CONFIG, absolute_positions=True, relative_positions="none", windows=(), position_resampling="size"
    )
    vit, bare = unsettled(ViT(config)), ViT(replace(config, class_position=False)).eval()
    assert vit.positions.shape == (1, 16, 8) and bare.positions is not None
    state = vit.state_dict()
    bare.load_state_dict(state | {"positions": state["positions"][:, 1:]})
    for size in ((24, 40), (16, 16)):
        images = torch.randn(1, 3, *size)
        assert torch.equal(bare(images), vit(images))


def test_positions_in_time_and_the_norm_of_the_embedding() -> None:
    config = replace(CONFIG, time_positions=3, embedding_norm=True, relative_positions="none", windows=())
    vit = unsettled(ViT(config))
    images = torch.randn(1, 3, 24, 40)
    tokens, _ = vit.embed(images)
    expected = vit.embedding_norm(vit.patches(images) + vit.time_positions[0])
    torch.testing.assert_close(tokens, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"windows": (2,)}, "windows has 1 entries for 2 blocks"),
        ({"windows": (2, -1)}, "sides of windows are at least 0; got -1"),
        ({"class_token": True}, "a class token belongs to no window"),
        ({"relative_positions": "shared"}, "blocks with windows can not share a table"),
        ({"residual_blocks": (2,)}, "residual_blocks has block 2, but depth is 2"),
        ({"layer_scale": 1.0, "layer_scale_from_zero": True}, "contradicts layer_scale_from_zero"),
        (
            {"class_token": True, "windows": (), "absolute_positions": True, "class_position": False},
            "leaves the class token without one",
        ),
    ],
)
def test_settings_that_contradict_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)
