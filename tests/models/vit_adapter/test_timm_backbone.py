from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from imglish.errors import ConfigError
from imglish.models.vit.model import ViT
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.model import ViTAdapter
from imglish.models.vit_adapter.timm_backbone import TimmBackbone, timm_backbone
from tests.models.vit_adapter.tiny import pictures, unsettle

SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 3}
# Class, distillation, register tokens; positions learned, with rows for the prefix or without, and rotary.
MODELS = {
    "vit_tiny_patch16_224": 1,
    "deit3_small_patch16_224": 1,
    "deit_tiny_distilled_patch16_224": 2,
    "vit_small_patch14_reg4_dinov2": 5,
    "vit_base_patch16_clip_224": 1,
    "eva02_tiny_patch14_224": 1,
    "vit_small_patch16_dinov3": 5,
    "vit_small_patch16_rope_mixed_224": 1,
}


def tiny(name: str, **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    side = 56 if "patch14" in name else 64
    model: nn.Module = timm.create_model(name, pretrained=False, img_size=side, **SMALL, **changes)
    unsettle(model)
    return model.eval()


def last_features(model: Any, images: torch.Tensor) -> torch.Tensor:
    """What timm computes, before the last norm."""
    model.norm = nn.Identity()
    features: torch.Tensor = model.forward_features(images)
    return features


@pytest.mark.parametrize(("name", "num_prefix"), MODELS.items())
@torch.no_grad()
def test_blocks_in_groups_give_what_timm_gives_at_any_size(name: str, num_prefix: int) -> None:
    model = tiny(name)
    side = model.patch_embed.patch_size[0]  # type: ignore[index, union-attr]
    flexible = tiny(name, dynamic_img_size=True)
    flexible.load_state_dict(model.state_dict())
    backbone = timm_backbone(model, patch_size=side)
    assert isinstance(backbone, TimmBackbone)
    assert (backbone.width, backbone.depth, backbone.num_prefix) == (48, 2, num_prefix)
    for rows, columns in ((4, 4), (3, 5), (4, 4)):
        images = pictures(rows * side, columns * side)
        tokens, grid = backbone.embed(images)
        assert grid == (rows, columns)
        tokens = backbone.run_blocks(backbone.run_blocks(tokens, 0, 1, grid), 1, 2, grid)
        torch.testing.assert_close(tokens, last_features(flexible, images))


@pytest.mark.parametrize("name", ["beit_base_patch16_224", "beitv2_base_patch16_224"])
@torch.no_grad()
def test_a_beit_becomes_our_vit(name: str) -> None:
    model = tiny(name)
    backbone = timm_backbone(model)
    assert isinstance(backbone, ViT)
    torch.testing.assert_close(backbone.tokens(pictures(64, 64)), last_features(model, pictures(64, 64)))
    assert backbone.tokens(pictures(32, 96)).shape == (2, 1 + 2 * 6, 48)


@torch.no_grad()
def test_patches_of_14_pixels_become_patches_of_16() -> None:
    model = tiny("vit_small_patch14_reg4_dinov2")
    nn.init.constant_(model.patch_embed.proj.weight, 0.01)  # type: ignore[union-attr, arg-type]
    backbone = timm_backbone(model)
    assert isinstance(backbone, TimmBackbone)
    assert backbone.projection.kernel_size == backbone.projection.stride == (16, 16)
    torch.testing.assert_close(backbone.projection.weight, torch.full((48, 3, 16, 16), 0.01))
    adapter = ViTAdapter(backbone, ViTAdapterConfig(num_interactions=2, num_heads=4, stem_width=4)).eval()
    maps = adapter(pictures(64, 70))
    assert maps.sizes() == {4: (16, 18), 8: (8, 9), 16: (4, 5), 32: (2, 3)}


def test_the_weights_are_those_of_the_timm_model_and_learn() -> None:
    model = tiny("vit_small_patch14_reg4_dinov2")
    backbone = timm_backbone(model, patch_size=14)
    assert isinstance(backbone, TimmBackbone)
    tokens, grid = backbone.embed(pictures(28, 42))
    backbone.run_blocks(tokens, 0, 2, grid).square().sum().backward()
    assert all(p.grad is not None for p in backbone.parameters())
    assert model.blocks[0].attn.qkv.weight.grad is not None  # type: ignore[index, union-attr]


def test_rotary_positions_are_not_augmented_in_training() -> None:
    backbone = timm_backbone(tiny("vit_small_patch16_dinov3", rope_shift_coords=0.5)).train()
    assert isinstance(backbone, TimmBackbone) and backbone.training
    tokens, grid = backbone.embed(pictures(32, 32))
    assert torch.equal(backbone.run_blocks(tokens, 0, 2, grid), backbone.run_blocks(tokens, 0, 2, grid))


def test_what_is_no_plain_vit_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="ResNet is no plain ViT of timm; expected a VisionTransformer, Eva"
    ):
        timm_backbone(timm.create_model("resnet18", pretrained=False))
    with pytest.raises(ConfigError, match="feed-forward network with gates or a norm"):
        timm_backbone(tiny("beit_base_patch16_224", swiglu_mlp=True))
    with pytest.raises(ConfigError, match="VisionTransformer is no PlainBackbone, it has no width, depth"):
        ViTAdapter(tiny("vit_tiny_patch16_224"), ViTAdapterConfig(num_interactions=2))
    backbone = timm_backbone(tiny("vit_small_patch14_reg4_dinov2"), patch_size=14)
    with pytest.raises(
        ConfigError, match="TimmBackbone has patches of 14 pixels; expected 4 or 8 or 16 or 32"
    ):
        ViTAdapter(backbone, ViTAdapterConfig(num_interactions=2, num_heads=4))
    with pytest.raises(ValueError, match="40x28 picture is not divisible into patches of 14"):
        assert isinstance(backbone, TimmBackbone)
        backbone.embed(pictures(40, 28))
