from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from imglish.models.dense_heads.semantic_fpn import SemanticFpnHead
from imglish.models.necks.fpn import Fpn
from imglish.structures.pyramid import FeaturePyramid

STRIDES = (4, 8, 16, 32)
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}  # float32, summed in another order


def head(dropout: float = 0.0) -> nn.Sequential:
    """Neck and head, as they stand together."""
    torch.manual_seed(0)
    top = SemanticFpnHead(in_width=8, num_classes=5, width=7, dropout=dropout)
    return nn.Sequential(Fpn((6,) * 4, 8), top).eval()


def pyramid(height: int = 64, width: int = 96) -> FeaturePyramid:
    g = torch.Generator().manual_seed(1)
    sizes = {stride: (-(-height // stride), -(-width // stride)) for stride in STRIDES}
    return FeaturePyramid({s: torch.randn(2, 6, *size, generator=g) for s, size in sizes.items()})


def passes_on() -> nn.Sequential:
    """Neck and head of one channel whose convolutions all pass on what they are given."""
    module = nn.Sequential(Fpn((1,) * 4, 1), SemanticFpnHead(in_width=1, num_classes=1, width=1)).eval()
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.dirac_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.eps = 0.0
    return module


def grids(*maps: Tensor) -> FeaturePyramid:
    return FeaturePyramid({s: x[None, None] for s, x in zip(STRIDES, maps, strict=True)})


@pytest.mark.parametrize("size", [(64, 96), (50, 70), (33, 32)])
def test_logits_stand_at_stride_4(size: tuple[int, int]) -> None:
    logits = head()(pyramid(*size))
    assert logits.shape == (2, 5, -(-size[0] // 4), -(-size[1] // 4))


def test_each_level_is_added_to_all_finer_ones_and_all_are_summed() -> None:
    flat = [
        torch.full((64 // s, 96 // s), value)
        for s, value in zip(STRIDES, (1.0, 20.0, 300.0, 4000.0), strict=True)
    ]
    logits = passes_on()(grids(*flat))
    # Coarse levels reach the sum by each finer one: once, twice, three and four times.
    torch.testing.assert_close(logits, torch.full((1, 1, 16, 24), 1.0 + 2 * 20 + 3 * 300 + 4 * 4000))


def test_on_the_way_down_a_cell_becomes_the_four_below_it_on_the_way_up_a_blend() -> None:
    sharp, nothing = torch.zeros(2, 3), [torch.zeros(32 // s, 48 // s) for s in (4, 8)]
    sharp[1, 2] = 1.0
    # Columns of stride 16, 8 and 4; two levels see the 1 by nearest neighbours, three blend it upwards.
    logits = passes_on()(grids(*nothing, sharp, torch.zeros(1, 2)))[0, 0]
    row = torch.zeros(12)
    row[8:] += 1.0  # level 4: copied down twice
    row[8:] += torch.tensor([0.75, 1.0, 1.0, 1.0])  # level 8: copied down once, blended up once
    row[7] += 0.25
    # Level 16: blended twice; (0, 1) becomes 0 .25 .75 1, and that 0 .0625 .1875 .375 .625 .8125 .9375 1.
    row[5:12] += torch.tensor([0.0625, 0.1875, 0.375, 0.625, 0.8125, 0.9375, 1.0])
    torch.testing.assert_close(logits[7], row)
    assert not logits[0].any()


def test_negative_sums_are_cut_before_the_classifier() -> None:
    flat = [torch.full((64 // s, 96 // s), -1.0) for s in STRIDES]
    assert not passes_on()(grids(*flat)).any()


def test_every_level_is_read_and_every_weight_learns() -> None:
    module, maps = head(), {s: x.requires_grad_() for s, x in pyramid().maps.items()}
    logits = module(FeaturePyramid(maps))
    (logits * torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    for stride, x in maps.items():
        assert x.grad is not None and x.grad.abs().amax(dim=(0, 1)).min() > 0, f"stride {stride}"
    assert [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_rows_stay_rows_and_columns_stay_columns() -> None:
    module, given = head(), pyramid()
    expected = module(given)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 4:
                parameter.copy_(parameter.mT.clone())
    swapped = module(FeaturePyramid({s: x.mT.contiguous() for s, x in given.maps.items()}))
    torch.testing.assert_close(swapped.mT, expected, **ROUNDING)


def test_whole_channels_are_dropped_in_training_only() -> None:
    module = head(dropout=0.5)
    assert torch.equal(module(pyramid()), module(pyramid()))
    dropout = module[1].dropout
    assert isinstance(dropout, nn.Dropout2d)
    dropout.train()
    channels: list[Tensor] = []
    hook = dropout.register_forward_hook(lambda layer, inputs, output: channels.append(output))
    torch.manual_seed(0)
    module(pyramid())
    hook.remove()
    dropped = (channels[0] == 0).all(dim=(2, 3))
    assert dropped.any() and not dropped.all()


@pytest.mark.parametrize(("in_width", "parameters"), [(192, 4_201_110), (768, 4_790_934), (1024, 5_053_078)])
def test_the_published_head_has_the_recorded_number_of_parameters(in_width: int, parameters: int) -> None:
    """Neck and head of the official configs of 150 classes: 256 and 128 channels."""
    with torch.device("meta"):
        module = nn.Sequential(Fpn((in_width,) * 4), SemanticFpnHead(in_width=256, num_classes=150))
    assert sum(p.numel() for p in module.parameters()) == parameters
