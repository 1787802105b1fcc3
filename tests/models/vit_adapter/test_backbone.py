from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from imglish.models.beit3.config import Beit3Config
from imglish.models.beit3.encoder import Beit3Encoder
from imglish.models.beit3.weights import resize_positions
from imglish.models.vit.model import ViT
from imglish.models.vit_adapter.backbone import Beit3VisionBackbone, PlainBackbone, quarter_windows
from imglish.structures.tokens import TokenLayout
from tests.models.vit_adapter.tiny import BEIT3, VIT, WIDTH, pictures, unsettle

ROUNDING = {"rtol": 1e-5, "atol": 1e-5}  # float32; the terms of a position are added in another order


def vit() -> ViT:
    return ViT(VIT)


def beit3() -> Beit3VisionBackbone:
    return Beit3VisionBackbone(Beit3Encoder(BEIT3))


def build(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    backbone = make().eval()
    unsettle(backbone)
    return backbone


@pytest.mark.parametrize("make", [vit, beit3])
@pytest.mark.parametrize("size", [(64, 96), (32, 160), (96, 64)])
def test_a_backbone_embeds_pictures_of_any_size(
    make: Callable[[], PlainBackbone], size: tuple[int, int]
) -> None:
    backbone = make()
    assert (backbone.width, backbone.depth, backbone.patch_size) == (WIDTH, 4, 16)
    tokens, grid = backbone.embed(pictures(*size))
    assert grid == (size[0] // 16, size[1] // 16)
    assert tokens.shape == (2, backbone.num_prefix + grid[0] * grid[1], WIDTH)
    assert backbone.run_blocks(tokens, 0, 4, grid).shape == tokens.shape


@pytest.mark.parametrize("make", [vit, beit3])
def test_groups_of_blocks_one_after_the_other_are_all_blocks(make: Callable[[], nn.Module]) -> None:
    backbone: PlainBackbone = build(make)  # type: ignore[assignment]
    tokens, grid = backbone.embed(pictures())
    whole = backbone.run_blocks(tokens, 0, 4, grid)
    parts = backbone.run_blocks(backbone.run_blocks(tokens, 0, 1, grid), 1, 4, grid)
    assert torch.equal(parts, whole)
    assert torch.equal(backbone.run_blocks(tokens, 2, 2, grid), tokens)
    assert not torch.allclose(backbone.run_blocks(tokens, 0, 3, grid), whole, atol=1e-3)


@pytest.mark.parametrize("shared", [False, True])
def test_beit3s_vision_side_is_beit3_with_a_picture_alone(shared: bool) -> None:
    config = BEIT3
    if shared:
        config = Beit3Config(
            image_size=(64, 96), vocab_size=20, max_text_tokens=4, width=WIDTH, depth=4, num_heads=4,
            feed_forward_width=64, output_norm=False, split_attention=False, sub_norm=False,
            num_fusion_layers=2,
        )  # fmt: skip
    backbone = build(lambda: Beit3VisionBackbone(Beit3Encoder(config)))
    assert isinstance(backbone, Beit3VisionBackbone)
    tokens, grid = backbone.embed(pictures())
    assert grid == (4, 6)
    assert torch.equal(backbone.run_blocks(tokens, 0, 4, grid), backbone.encoder(pictures()).tokens)


@pytest.mark.parametrize("size", [(96, 64), (32, 160), (128, 192)])
def test_positions_are_resampled_as_the_official_loader_resamples_tables(size: tuple[int, int]) -> None:
    backbone = build(beit3)
    assert isinstance(backbone, Beit3VisionBackbone)
    tokens, grid = backbone.embed(pictures(*size))
    embedding = backbone.encoder.vision_embedding
    table = resize_positions(embedding.positions.weight.detach(), (4, 6), grid)
    embedding.positions = nn.Embedding.from_pretrained(table)
    torch.testing.assert_close(tokens, embedding(pictures(*size)), **ROUNDING)


def test_in_pictures_of_another_size_positions_and_class_token_learn() -> None:
    backbone = build(beit3)
    assert isinstance(backbone, Beit3VisionBackbone)
    tokens, _ = backbone.embed(pictures(96, 64))
    (tokens * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    embedding = backbone.encoder.vision_embedding
    assert embedding.class_token.grad is not None and embedding.class_token.grad.all()
    gradient = embedding.positions.weight.grad
    assert gradient is not None
    # Two rows in front are unused, the rest is the class token's and each patch's.
    assert not gradient[:2].any() and gradient[2:].any(dim=1).all()


@pytest.mark.parametrize("make", [vit, beit3])
def test_a_picture_that_does_not_divide_into_patches_is_refused(make: Callable[[], PlainBackbone]) -> None:
    with pytest.raises(ValueError, match="40x96 picture is not divisible into patches of 16"):
        make().embed(pictures(40, 96))


def test_windows_of_the_picture_see_themselves_only_and_no_padding() -> None:
    """In a block with windows a patch depends on its own window; the picture is not of whole ones."""
    encoder = Beit3Encoder(BEIT3)
    unsettle(encoder)
    whole = Beit3VisionBackbone(encoder.eval())
    cut = Beit3VisionBackbone(encoder.eval(), windows=(4, 0, 4, 0))
    tokens, grid = whole.embed(pictures(96, 160))  # 6 x 10 patches: windows of 4 x 4, 4 x 2, 2 x 4, 2 x 2
    found = cut.run_blocks(tokens, 0, 1, grid)
    assert torch.equal(found[:, 0], tokens[:, 0])
    patches = tokens[:, 1:].unflatten(1, grid)
    result = found[:, 1:].unflatten(1, grid)
    for rows, columns in (
        (slice(0, 4), slice(4, 8)),
        (slice(4, 6), slice(0, 4)),
        (slice(4, 6), slice(8, 10)),
    ):
        own = patches[:, rows, columns].flatten(1, 2)
        alone = encoder.blocks[0](own, TokenLayout(num_vision=own.shape[1], num_text=0))
        torch.testing.assert_close(result[:, rows, columns].flatten(1, 2), alone, **ROUNDING)
    assert torch.equal(cut.run_blocks(tokens, 1, 2, grid), whole.run_blocks(tokens, 1, 2, grid))


@pytest.mark.parametrize("windows", [(4, 0), (4, 0, 4, -1)])
def test_windows_are_given_for_each_block(windows: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="windows must be 4 sides"):
        Beit3VisionBackbone(Beit3Encoder(BEIT3), windows=windows)


def test_the_last_block_of_each_quarter_sees_the_whole_picture() -> None:
    assert quarter_windows(12) == (14, 14, 0) * 4
    assert quarter_windows(4, side=3) == (0,) * 4
    with pytest.raises(ValueError, match="quarters"):
        quarter_windows(6)
