"""ViTDet's pyramid makes every level of the one map it is given."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from imglish.models.necks.simple_pyramid import ChannelNorm, SimplePyramid
from imglish.structures.pyramid import FeaturePyramid


def test_levels_have_their_strides_and_channels() -> None:
    neck = SimplePyramid(8, 6, num_extra=1)
    pyramid = neck(FeaturePyramid({16: torch.randn(2, 8, 5, 7)}))
    assert pyramid.sizes() == {4: (20, 28), 8: (10, 14), 16: (5, 7), 32: (3, 4), 64: (2, 2)}
    assert all(x.shape[:2] == (2, 6) for x in pyramid.maps.values())


def test_levels_do_not_see_each_other() -> None:
    """Stride 16 is two convolutions with their norms and nothing else."""
    torch.manual_seed(0)
    neck = SimplePyramid(8, 6)
    x = torch.randn(1, 8, 4, 4)
    conv1, norm1, conv3, norm3 = neck.outputs[2].children()
    assert isinstance(conv1, nn.Conv2d) and isinstance(conv3, nn.Conv2d)
    expected = norm3(F.conv2d(norm1(conv1(x)), conv3.weight, padding=1))
    torch.testing.assert_close(neck(FeaturePyramid({16: x}))[16], expected)
    assert conv1.bias is None and conv3.bias is None


def test_norms_are_over_the_channels_of_a_cell() -> None:
    x = 3 + 2 * torch.randn(2, 64, 3, 4)
    y = ChannelNorm(64)(x)
    torch.testing.assert_close(y.mean(dim=1), torch.zeros(2, 3, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.var(dim=1, unbiased=False), torch.ones(2, 3, 4), rtol=0, atol=1e-4)


def test_every_parameter_learns_and_odd_widths_are_refused() -> None:
    neck = SimplePyramid(8, 6, num_extra=1)
    weights = [torch.randn(shape) for shape in ((16, 16), (8, 8), (4, 4), (2, 2), (1, 1))]
    maps = neck(FeaturePyramid({16: torch.randn(1, 8, 4, 4)})).maps.values()
    torch.stack([(x * w).sum() for x, w in zip(maps, weights, strict=True)]).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in neck.parameters())
    with pytest.raises(ValueError, match="multiple of 4"):
        SimplePyramid(6)
