from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.models.vit.config import ViTConfig
from imglish.models.vit.model import ViT
from imglish.models.vit_adapter.backbone import Beit3VisionBackbone, PlainBackbone
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.models.vit_adapter.model import ViTAdapter
from imglish.nn.deformable_attention import DeformableAttention
from tests.models.vit_adapter.tiny import (
    ADAPTER,
    VIT,
    WIDTH,
    beit3_adapter,
    pictures,
    unsettle,
    vit_adapter,
)

STRIDES = (4, 8, 16, 32)
# float32, summed in another order, through four blocks.
ROUNDING = {"rtol": 1e-3, "atol": 1e-4}
BOTH = pytest.mark.parametrize("make", [vit_adapter, beit3_adapter])


def blocks_of(adapter: ViTAdapter) -> list[nn.Module]:
    """The backbone's blocks."""
    backbone = adapter.backbone
    if isinstance(backbone, Beit3VisionBackbone):
        return list(backbone.encoder.blocks)
    assert isinstance(backbone, ViT)
    return list(backbone.blocks)


def inputs_and_outputs(adapter: ViTAdapter, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """What each of the backbone's blocks is given and gives while the adapter runs, in order of the calls."""
    given: list[Tensor] = []
    gave: list[Tensor] = []

    def remember(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        given.append(inputs[0].detach())
        gave.append(output.detach())

    hooks = [block.register_forward_hook(remember) for block in blocks_of(adapter)]
    adapter(images)
    for hook in hooks:
        hook.remove()
    return given, gave


def weighted_sum(maps: dict[int, Tensor]) -> Tensor:
    """A scalar that reads every number of every map differently."""
    g = torch.Generator().manual_seed(1)
    return torch.stack([(x * torch.randn(x.shape, generator=g)).sum() for x in maps.values()]).sum()


def without_gradient(module: nn.Module) -> set[str]:
    return {name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()}


@BOTH
@pytest.mark.parametrize("size", [(64, 96), (50, 70), (32, 160), (97, 33)])
def test_pictures_of_any_size_give_maps_of_four_strides(
    make: Callable[[], ViTAdapter], size: tuple[int, int]
) -> None:
    pyramid = make()(pictures(*size))
    assert pyramid.strides == STRIDES
    for stride, x in pyramid.maps.items():
        assert x.shape == (2, WIDTH, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
        assert x.isfinite().all()


def test_other_sizes_are_padded_with_zeros_at_the_bottom_and_the_right() -> None:
    adapter = vit_adapter()
    unsettle(adapter)
    padded = torch.zeros(2, 3, 64, 96)
    padded[:, :, :50, :70] = pictures(50, 70)
    expected = adapter(padded)
    for stride, x in adapter(pictures(50, 70)).maps.items():
        assert torch.equal(x, expected[stride][..., : x.shape[-2], : x.shape[-1]])


@BOTH
def test_at_the_start_the_backbone_gives_what_it_gives_alone(make: Callable[[], ViTAdapter]) -> None:
    adapter = make()
    backbone: PlainBackbone = adapter.backbone  # type: ignore[assignment]
    tokens, grid = backbone.embed(pictures())
    alone = backbone.run_blocks(tokens, 0, backbone.depth, grid)
    _, outputs = inputs_and_outputs(adapter, pictures())
    assert len(outputs) == backbone.depth  # each block ran once
    assert torch.equal(outputs[-1], alone)
    with torch.no_grad():
        adapter.interactions[0].injector.gamma.fill_(0.5)  # type: ignore[union-attr, operator]
    _, outputs = inputs_and_outputs(adapter, pictures())
    assert not torch.allclose(outputs[-1], alone, atol=1e-3)


@BOTH
def test_the_injector_changes_patches_and_leaves_the_class_token_alone(
    make: Callable[[], ViTAdapter],
) -> None:
    adapter = make()
    unsettle(adapter)
    inputs, outputs = inputs_and_outputs(adapter, pictures())
    tokens, _ = adapter.backbone.embed(pictures())  # type: ignore[operator]
    # Two interactions before the first and the third of four blocks.
    for before, after in ((tokens, inputs[0]), (outputs[1], inputs[2])):
        assert torch.equal(before[:, 0], after[:, 0])
        assert (before[:, 1:] != after[:, 1:]).any(dim=2).all()
    for before, after in ((outputs[0], inputs[1]), (outputs[2], inputs[3])):
        assert torch.equal(before, after)


def test_at_the_start_all_learns_but_what_a_zero_hides() -> None:
    adapter = vit_adapter()
    weighted_sum(adapter(pictures()).maps).backward()
    own = {name for name, _ in adapter.named_parameters() if not name.startswith("backbone.")}
    behind_factor = {name for name in own if ".injector." in name and not name.endswith("gamma")}
    # Offsets and weights of points start without a look at the query; they learn to look.
    unread = {name for name in own if "extractor" in name and ".query_norm." in name}
    assert own & without_gradient(adapter) == behind_factor | unread


@BOTH
def test_once_the_factors_have_moved_everything_learns(make: Callable[[], ViTAdapter]) -> None:
    adapter = make()
    unsettle(adapter)
    weighted_sum(adapter(pictures()).maps).backward()
    still = without_gradient(adapter)
    assert {name for name in still if not name.startswith("backbone.")} == set()
    # Of the backbone, all that reads pictures; dense features have no norm of their own.
    unused = ("text", "mask_token", "backbone.norm.")
    assert {name for name in still if not any(word in name for word in unused)} == set()


def test_a_frozen_backbone_lets_the_adapter_learn() -> None:
    adapter = vit_adapter()
    unsettle(adapter)
    adapter.backbone.requires_grad_(False)
    weighted_sum(adapter(pictures()).maps).backward()
    assert {name for name in without_gradient(adapter) if not name.startswith("backbone.")} == set()
    assert all(p.grad is None for p in adapter.backbone.parameters())


def transposed(adapter: ViTAdapter) -> ViTAdapter:
    """The same adapter for pictures whose rows and columns have changed places."""
    with torch.no_grad():
        for parameter in adapter.parameters():
            if parameter.ndim == 4:
                parameter.copy_(parameter.mT.clone())
        for module in adapter.modules():
            if isinstance(module, DeformableAttention):
                weight, bias = module.sampling_offsets.weight, module.sampling_offsets.bias
                weight.copy_(weight.unflatten(0, (-1, 2)).flip(1).flatten(0, 1))
                bias.copy_(bias.unflatten(0, (-1, 2)).flip(1).flatten())
    return adapter


def test_rows_stay_rows_and_columns_stay_columns() -> None:
    """With kernels transposed and offsets swapped, a transposed picture gives transposed maps."""
    adapter = vit_adapter(vit=replace(VIT, absolute_positions=False))
    unsettle(adapter)
    expected = adapter(pictures(64, 96)).maps
    swapped = transposed(adapter)(pictures(64, 96).mT.contiguous()).maps
    for stride, x in expected.items():
        assert x.abs().max() > 0.1
        torch.testing.assert_close(swapped[stride].mT, x, **ROUNDING)


def test_each_map_has_the_vits_features_at_its_own_size() -> None:
    """With everything of the adapter at zero, the ViT's map is what remains."""
    adapter = vit_adapter()
    vit = adapter.backbone
    assert isinstance(vit, ViT)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if not name.startswith(("backbone.", "norms.")):
                parameter.zero_()
        tokens = vit.tokens(pictures())[:, 1:]
        maps = adapter(pictures()).maps
    # A fresh batch norm divides by sqrt(1 + 1e-5).
    own = tokens.transpose(1, 2).reshape(2, WIDTH, 4, 6) / math.sqrt(1 + 1e-5)
    torch.testing.assert_close(maps[16], own)
    torch.testing.assert_close(maps[32], F.avg_pool2d(own, 2))
    # Between two patch centres a finer map is a blend of their features: at stride 8, 3/4 and 1/4.
    torch.testing.assert_close(maps[8][..., 0, 1], 0.75 * own[..., 0, 0] + 0.25 * own[..., 0, 1])
    torch.testing.assert_close(maps[8][..., 3, 0], 0.75 * own[..., 1, 0] + 0.25 * own[..., 2, 0])
    torch.testing.assert_close(maps[4][..., 0, 2], 0.875 * own[..., 0, 0] + 0.125 * own[..., 0, 1])


def test_a_picture_does_not_depend_on_its_neighbours_in_the_batch() -> None:
    adapter = vit_adapter()
    unsettle(adapter)
    both, alone = adapter(pictures()), adapter(pictures()[1:])
    for stride in STRIDES:
        torch.testing.assert_close(both[stride][1:], alone[stride], **ROUNDING)


def test_extra_extractors_follow_the_last_interaction_only() -> None:
    adapter = vit_adapter(replace(ADAPTER, num_interactions=4, num_extra_extractors=2))
    assert [len(part.extra_extractors) for part in adapter.interactions] == [0, 0, 0, 2]  # type: ignore[arg-type]


# Paper, table of variants; exact numbers from builds of the official code.
@pytest.mark.parametrize(
    ("width", "depth", "heads", "ratio", "adapter_only"),
    [
        (192, 12, 6, 1.0, 2_438_192),
        (384, 12, 6, 1.0, 5_830_160),
        (768, 12, 12, 0.5, 13_680_608),
        (1024, 24, 16, 0.5, 23_236_800),
    ],
)
def test_the_published_sizes_have_the_recorded_number_of_parameters(
    width: int, depth: int, heads: int, ratio: float, adapter_only: int
) -> None:
    with torch.device("meta"):
        vit = ViT(ViTConfig(width=width, depth=depth, num_heads=heads))
        adapter = ViTAdapter(vit, ViTAdapterConfig(num_heads=heads, value_ratio=ratio))
    backbone = sum(p.numel() for p in vit.parameters())
    assert sum(p.numel() for p in adapter.parameters()) - backbone == adapter_only


def test_blocks_that_do_not_divide_into_interactions_are_refused() -> None:
    with pytest.raises(ValueError, match="depth 4 does not divide into 3 interactions"):
        vit_adapter(replace(ADAPTER, num_interactions=3))


def test_without_gradients_the_numbers_are_the_same() -> None:
    """Where products pay, a CPU computes them in another way then; training keeps torch's own."""
    adapter = vit_adapter(vit=replace(VIT, image_size=(256, 256), width=192))
    unsettle(adapter)
    expected = adapter(pictures(256, 256)).maps
    with torch.inference_mode():
        found = adapter(pictures(256, 256)).maps
    for stride, x in expected.items():
        assert not torch.equal(found[stride], x)
        assert (found[stride] - x).abs().max() < 1e-4 * x.abs().max()


def test_maps_of_one_picture_have_their_channels_last_as_those_of_two() -> None:
    """What follows is computed twice as fast so."""
    adapter = vit_adapter()
    for batch in (1, 2):
        for x in adapter(pictures(batch=batch)).maps.values():
            assert x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
