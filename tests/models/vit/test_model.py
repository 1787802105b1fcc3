from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from imglish.models.vit.config import RelativePositions, ViTConfig
from imglish.models.vit.model import Pooling, ViT, ViTForClassification

CONFIG = ViTConfig(image_size=(16, 24), patch_size=8, width=16, depth=2, num_heads=2, mlp_ratio=2.0)
IMAGES = torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def build(**changes: object) -> ViT:
    torch.manual_seed(0)
    return ViT(replace(CONFIG, **changes)).eval()  # type: ignore[arg-type]


def test_features_are_normalised_and_leave_the_class_token_out() -> None:
    vit = build()
    tokens, features = vit.tokens(IMAGES), vit(IMAGES)
    assert tokens.shape == (3, 1 + 6, 16) and features.shape == (3, 6, 16)
    torch.testing.assert_close(features, vit.norm(tokens)[:, 1:])


@pytest.mark.parametrize("relative", ["none", "shared", "per_block"])
def test_a_picture_alone_gives_what_it_gives_in_a_batch(relative: RelativePositions) -> None:
    vit = build(relative_positions=relative)
    torch.testing.assert_close(vit(IMAGES)[1:2], vit(IMAGES[1:2]))


def test_blocks_run_in_parts_give_what_they_give_at_once() -> None:
    vit = build(relative_positions="shared")
    tokens, grid = vit.embed(IMAGES)
    assert grid == (2, 3)
    tokens = vit.run_blocks(vit.run_blocks(tokens, 0, 1, grid), 1, 2, grid)
    torch.testing.assert_close(tokens, vit.tokens(IMAGES))


def test_a_shared_table_equals_the_same_table_in_each_block() -> None:
    shared, single = build(relative_positions="shared"), build(relative_positions="per_block")
    single.load_state_dict(shared.state_dict(), strict=False)
    assert shared.relative_positions is not None
    torch.nn.init.normal_(shared.relative_positions.table)
    for block in single.blocks:
        block.attention.relative_positions.load_state_dict(shared.relative_positions.state_dict())  # type: ignore[union-attr]
    torch.testing.assert_close(single(IMAGES), shared(IMAGES))
    assert (shared(IMAGES) - build()(IMAGES)).abs().max() > 1e-3


def roll_patches(features: torch.Tensor) -> torch.Tensor:
    """Move features (B, 6, C) of a 2 x 3 grid one patch to the right, around the rim."""
    return features.view(3, 2, 3, 16).roll(1, dims=2).flatten(1, 2)


def test_without_positions_the_order_of_patches_does_not_matter() -> None:
    vit = build(absolute_positions=False)
    turned = IMAGES.roll(8, dims=3)
    torch.testing.assert_close(vit(turned), roll_patches(vit(IMAGES)))
    placed = build()
    assert (placed(turned) - roll_patches(placed(IMAGES))).abs().max() > 1e-3


def test_other_sizes_resample_absolute_positions() -> None:
    assert build()(torch.randn(1, 3, 32, 32)).shape == (1, 16, 16)


def test_other_sizes_are_refused_with_relative_positions() -> None:
    with pytest.raises(ValueError, match=r"\(4, 4\) patches.*\(2, 3\).*resize pictures to \(16, 24\)"):
        build(relative_positions="shared")(torch.randn(1, 3, 32, 32))


def test_layer_scale_starts_branches_small() -> None:
    vit = build(layer_scale=1e-5)
    tokens, grid = vit.embed(IMAGES)
    torch.testing.assert_close(vit.run_blocks(tokens, 0, 2, grid), tokens, atol=1e-3, rtol=0.0)
    assert (build().run_blocks(tokens, 0, 2, grid) - tokens).abs().max() > 1e-2


@pytest.mark.parametrize("pooling", ["mean", "class_token"])
@pytest.mark.parametrize("relative", ["shared", "per_block"])
def test_every_parameter_gets_a_gradient(pooling: Pooling, relative: RelativePositions) -> None:
    config = replace(CONFIG, relative_positions=relative, layer_scale=0.1)
    model = ViTForClassification(config, 5, pooling=pooling)
    model(IMAGES).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_classes_are_read_from_the_normalised_mean_or_the_class_token() -> None:
    torch.manual_seed(0)
    model = ViTForClassification(CONFIG, 5).eval()
    tokens = model.vit.tokens(IMAGES)
    torch.testing.assert_close(model.features(IMAGES), model.vit.norm(tokens[:, 1:].mean(1)))
    model.pooling = "class_token"
    torch.testing.assert_close(model.features(IMAGES), model.vit.norm(tokens[:, 0]))
    torch.testing.assert_close(model(IMAGES), model.head(model.features(IMAGES)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "width 16 is not divisible by num_heads 3"),
        ({"image_size": (16, 20)}, "image side 20 is not divisible by patch_size 8"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)  # type: ignore[arg-type]
