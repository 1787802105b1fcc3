from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.models.dense_heads.upernet import PyramidPooling, UPerNetHead
from imglish.structures.pyramid import FeaturePyramid

STRIDES = (4, 8, 16, 32)


def head(dropout: float = 0.0) -> UPerNetHead:
    torch.manual_seed(0)
    return UPerNetHead(in_widths=(6,) * 4, num_classes=5, width=8, dropout=dropout).eval()


def pyramid(height: int = 64, width: int = 96) -> FeaturePyramid:
    g = torch.Generator().manual_seed(1)
    sizes = {stride: (-(-height // stride), -(-width // stride)) for stride in STRIDES}
    return FeaturePyramid({s: torch.randn(2, 6, *size, generator=g) for s, size in sizes.items()})


@pytest.mark.parametrize("size", [(64, 96), (50, 70), (33, 32)])
def test_logits_stand_at_stride_4(size: tuple[int, int]) -> None:
    assert head()(pyramid(*size)).shape == (2, 5, -(-size[0] // 4), -(-size[1] // 4))


def test_pooling_joins_the_map_with_means_over_ever_finer_grids() -> None:
    module = PyramidPooling(1, 1, (1, 2), nn.BatchNorm2d).eval()
    for grid in module.grids:
        nn.init.dirac_(grid.conv.weight)  # type: ignore[union-attr, arg-type]
        grid.norm.eps = 0.0  # type: ignore[union-attr]
    seen: list[Tensor] = []
    hook = module.join.register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    x = torch.rand(1, 1, 4, 6)
    module(x)
    hook.remove()
    quarters = torch.stack([x[0, 0, r : r + 2, c : c + 3].mean() for r in (0, 2) for c in (0, 3)]).view(
        1, 1, 2, 2
    )
    torch.testing.assert_close(seen[0][:, :1], x)
    torch.testing.assert_close(seen[0][:, 1:2], x.mean().expand(1, 1, 4, 6))
    torch.testing.assert_close(seen[0][:, 2:], F.interpolate(quarters, size=(4, 6), mode="bilinear"))


def test_a_level_reaches_the_logits_by_all_finer_ones() -> None:
    """The finest level's path alone does not know the coarser ones without the way down."""
    module, given = head(), pyramid()
    seen: list[Tensor] = []
    hook = module.fusion.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    module(given)
    module(FeaturePyramid({**given.maps, 16: given[16].flip(3)}))
    hook.remove()
    changed = [(a != b).any().item() for a, b in zip(seen[0].split(8, 1), seen[1].split(8, 1), strict=True)]
    assert changed == [True, True, True, False]


def test_every_level_is_read_and_every_weight_learns() -> None:
    module, maps = head(), {s: x.requires_grad_() for s, x in pyramid().maps.items()}
    logits = module(FeaturePyramid(maps))
    (logits * torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    assert all(x.grad is not None and x.grad.any() for x in maps.values())
    assert [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_whole_channels_are_dropped_in_training_only() -> None:
    module = head(dropout=0.5)
    assert torch.equal(module(pyramid()), module(pyramid()))
    module.dropout.train()
    assert not torch.equal(module(pyramid()), module(pyramid()))
