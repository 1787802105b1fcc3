from __future__ import annotations

import pytest
import torch
from torch import nn

from imglish.models.necks.extra_attention import ExtraAttention
from imglish.structures.pyramid import FeaturePyramid
from tests.models.necks.test_fpn import pyramid


def test_only_the_coarsest_level_changes() -> None:
    given = pyramid((3, 4, 5, 8))
    found = ExtraAttention(8, num_heads=2)(given)
    assert found.sizes() == given.sizes()
    assert all(found[stride] is given[stride] for stride in (4, 8, 16))
    assert not torch.allclose(found[32], given[32])


def test_a_cell_sees_all_others_and_their_order_does_not_matter() -> None:
    neck, level = ExtraAttention(8, num_heads=2).eval(), torch.randn(1, 8, 3, 4)
    found = neck(FeaturePyramid({32: level}))[32]
    turned = neck(FeaturePyramid({32: level.flip(2)}))[32]
    torch.testing.assert_close(turned.flip(2), found)
    changed = level.clone()
    changed[0, :, 2, 3] *= -1
    other = neck(FeaturePyramid({32: changed}))[32]
    assert not torch.allclose(other[0, :, 0, 0], found[0, :, 0, 0])


def test_it_is_torchs_encoder_layer_with_a_norm_behind_it() -> None:
    neck = ExtraAttention(8, num_heads=2, ffn_ratio=3, drop_path=0.0)
    layer = nn.TransformerEncoderLayer(
        8, 2, 24, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    assert neck.feed_forward is not None
    pairs: list[tuple[nn.Module, nn.Module]] = [(layer.norm1, neck.norm1), (layer.norm2, neck.norm2 or neck)]
    pairs += [(layer.self_attn.out_proj, neck.output), (layer.linear1, neck.feed_forward.fc1)]
    pairs += [(layer.linear2, neck.feed_forward.fc2)]
    with torch.no_grad():
        for parameter in neck.parameters():
            parameter.normal_()
        for theirs, ours in pairs:
            theirs.load_state_dict(ours.state_dict())
        layer.self_attn.in_proj_weight.copy_(neck.qkv.weight)
        layer.self_attn.in_proj_bias.copy_(neck.qkv.bias)
    level = torch.randn(2, 8, 3, 4)
    expected = neck.final_norm(layer(level.flatten(2).transpose(1, 2)))
    found = neck(FeaturePyramid({32: level}))[32].flatten(2).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)  # sums of two dozen products


def test_the_feed_forward_network_can_be_left_out() -> None:
    neck = ExtraAttention(8, num_heads=2, ffn_ratio=0)
    assert not any(name.startswith(("feed_forward", "norm2")) for name in neck.state_dict())
    assert neck(pyramid((8,)))[4].shape == (2, 8, 16, 24)


def test_whole_branches_are_dropped_in_training() -> None:
    neck, level = ExtraAttention(8, num_heads=2, drop_path=0.5), torch.randn(64, 8, 1, 2)
    plain = neck.final_norm(level.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (1, 2))
    same = torch.isclose(neck(FeaturePyramid({32: level}))[32], plain).flatten(1).all(dim=1)
    assert 4 < same.sum() < 32  # of 64, a quarter loses both branches


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="num_heads"):
        ExtraAttention(8, num_heads=3)
