from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.interaction import ConvFeedForward, Extractor, Injector
from imglish.ops.deformable_attention import LevelSizes, reference_points
from tests.models.vit_adapter.tiny import unsettle

WIDTH = 16
CONFIG = ViTAdapterConfig(stem_width=4, num_heads=4, num_points=2)
GRID = (6, 10)  # of the ViT's patches, 16 pixels each
SIZES: LevelSizes = ((12, 20), (6, 10), (3, 5))
STRIDES = (8, 16, 32)
PLACES, GRID_PLACES = reference_points(SIZES), reference_points((GRID,))
NUM_SPATIAL, NUM_PATCHES = len(PLACES), len(GRID_PLACES)


def tokens() -> tuple[Tensor, Tensor]:
    """ViT tokens (B, N, C) and spatial tokens (B, M, C)."""
    g = torch.Generator().manual_seed(0)
    return (
        torch.randn(2, NUM_PATCHES, WIDTH, generator=g, requires_grad=True),
        torch.randn(2, NUM_SPATIAL, WIDTH, generator=g, requires_grad=True),
    )


def injector(gamma: float) -> Injector:
    torch.manual_seed(0)
    module = Injector(WIDTH, CONFIG)
    nn.init.constant_(module.gamma, gamma)
    return module


def extractor(drop_path: float = 0.0) -> Extractor:
    torch.manual_seed(0)
    return Extractor(WIDTH, ViTAdapterConfig(num_heads=4, num_points=2, drop_path=drop_path))


def weighted_sum(x: Tensor) -> Tensor:
    """A scalar that reads every number of ``x`` differently."""
    return (x * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).sum()


def without_gradient(module: nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()}


def test_the_injector_starts_as_the_identity_and_its_factor_learns() -> None:
    x, spatial = tokens()
    module = Injector(WIDTH, CONFIG)
    y = module(x, GRID_PLACES, spatial, SIZES, GRID)
    assert torch.equal(y, x)
    weighted_sum(y).backward()
    assert module.gamma.grad is not None and module.gamma.grad.abs().min() > 0
    # The factor of zero keeps everything behind it still until it has moved.
    assert without_gradient(module) == {name for name, _ in module.named_parameters()} - {"gamma"}
    assert spatial.grad is not None and not spatial.grad.any()


def test_once_its_factor_has_moved_the_whole_injector_learns() -> None:
    x, spatial = tokens()
    module = injector(0.5)
    unsettle(module)
    weighted_sum(module(x, GRID_PLACES, spatial, SIZES, GRID)).backward()
    assert without_gradient(module) == set()
    assert x.grad is not None and (x.grad != 0).all()
    assert spatial.grad is not None
    # Of each level some tokens are sampled.
    parts = spatial.grad.split([height * width for height, width in SIZES], dim=1)
    assert all(part.abs().sum() > 0.1 for part in parts)


def test_the_whole_extractor_learns_and_both_its_inputs_do() -> None:
    x, spatial = tokens()
    module = extractor()
    unsettle(module)
    weighted_sum(module(spatial, PLACES, x, GRID, SIZES)).backward()
    assert without_gradient(module) == set()
    assert x.grad is not None and (x.grad != 0).any(dim=2).all()  # every patch is looked at
    assert spatial.grad is not None and (spatial.grad != 0).any(dim=2).all()


@pytest.mark.parametrize("level", [0, 1, 2])
def test_at_the_start_a_patch_looks_at_spatial_tokens_around_its_own_place(level: int) -> None:
    x, spatial = tokens()
    height, width = SIZES[level]
    row, column = height - 2, width // 2
    changed = spatial.detach().clone()
    changed[:, sum(h * w for h, w in SIZES[:level]) + row * width + column] += 1
    module = injector(1.0)
    with torch.no_grad():
        before, after = (module(x, GRID_PLACES, c, SIZES, GRID) for c in (spatial, changed))
    rows, columns = (before != after).any(dim=2)[0].view(GRID).nonzero(as_tuple=True)
    assert len(rows) > 0
    # Two points, one and two pixels of the level away, and less than one more for the bilinear sample.
    reach = 3 * STRIDES[level]
    assert ((rows * 16 + 8) - (row + 0.5) * STRIDES[level]).abs().max() < reach
    assert ((columns * 16 + 8) - (column + 0.5) * STRIDES[level]).abs().max() < reach


def test_at_the_start_a_spatial_token_looks_at_patches_around_its_own_place() -> None:
    x, spatial = tokens()
    changed = x.detach().clone()
    changed[:, 4 * GRID[1] + 7] += 1
    module = extractor()
    with torch.no_grad():
        before, after = (module(spatial, PLACES, patches, GRID, SIZES) for patches in (x, changed))
    ends = [0, *torch.tensor([h * w for h, w in SIZES]).cumsum(0).tolist()]
    for (start, stop), size, stride in zip(pairwise(ends), SIZES, STRIDES, strict=True):
        hit = (before != after).any(dim=2)[0, start:stop].view(size)
        rows, columns = hit.nonzero(as_tuple=True)
        assert 0 < len(rows) < hit.numel()
        reach = 3 * 16 + stride  # points as above, then a convolution of one token more
        assert ((rows + 0.5) * stride - 4.5 * 16).abs().max() < reach
        assert ((columns + 0.5) * stride - 7.5 * 16).abs().max() < reach


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_feed_forward_convolves_each_level_as_a_map_of_its_own(level: int) -> None:
    torch.manual_seed(0)
    module = ConvFeedForward(WIDTH, 8)
    height, width = SIZES[level]
    start, row, column = sum(h * w for h, w in SIZES[:level]), 1, 3
    spatial = tokens()[1].detach()
    changed = spatial.clone()
    changed[:, start + row * width + column] += 1
    hit = (module(spatial, SIZES) != module(changed, SIZES)).any(dim=2).all(dim=0)
    expected = torch.zeros(height, width, dtype=torch.bool)
    expected[row - 1 : row + 2, column - 1 : column + 2] = True
    assert torch.equal(hit[start : start + height * width].view(height, width), expected)
    assert int(hit.sum()) == 9  # and nothing of the other levels


def test_drop_path_drops_the_feed_forward_branch_only() -> None:
    x, spatial = tokens()
    whole, dropped = extractor(), extractor(drop_path=0.999999).train()
    with torch.no_grad():
        nn.init.zeros_(whole.feed_forward.fc2.weight)
        nn.init.zeros_(whole.feed_forward.fc2.bias)
        attended = whole(spatial, PLACES, x, GRID, SIZES)
        assert not torch.allclose(attended, spatial, atol=0.01)
        assert torch.equal(dropped(spatial, PLACES, x, GRID, SIZES), attended)
        # In evaluation nothing is dropped.
        dropped.eval()
        assert not torch.allclose(dropped(spatial, PLACES, x, GRID, SIZES), attended, atol=0.001)


def test_values_are_projected_to_a_share_of_the_width() -> None:
    for ratio, inner in ((0.5, 8), (1.0, 16)):
        attention = Injector(WIDTH, ViTAdapterConfig(num_heads=4, value_ratio=ratio)).attention
        assert attention.value_proj.out_features == attention.output_proj.in_features == inner
    with pytest.raises(ValueError, match="value width 8 .* num_heads 3"):
        Injector(WIDTH, ViTAdapterConfig(num_heads=3))
