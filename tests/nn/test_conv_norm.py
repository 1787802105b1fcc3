"""A convolution and its norm are one convolution in evaluation on a CPU, and two steps elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from imglish.nn.conv_norm import ConvNorm, convolve_and_normalise


def learned(layer: nn.Module) -> nn.Module:
    """Statistics, factors and shifts as of a trained layer."""
    torch.manual_seed(0)
    for name, tensor in layer.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5 if "var" in name else torch.randn_like(tensor))
    return layer.eval()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_folded_is_one_after_the_other(bias: bool, stride: int) -> None:
    conv = nn.Conv2d(3, 8, 3, stride=stride, padding=1, bias=bias)
    pair = learned(nn.Sequential(conv, nn.BatchNorm2d(8, eps=1e-3)))
    x = torch.randn(2, 3, 9, 7)
    with torch.no_grad():
        expected = pair(x)
        # Other sums of 27 products of numbers up to 10, in float32.
        torch.testing.assert_close(convolve_and_normalise(conv, pair[1], x), expected, atol=1e-4, rtol=1e-4)  # type: ignore[index]
        assert not torch.equal(convolve_and_normalise(conv, pair[1], x), expected)  # type: ignore[index]
    assert torch.equal(convolve_and_normalise(conv, pair[1], x), pair(x))  # type: ignore[index]


@pytest.mark.parametrize(
    "norm", [lambda width: nn.GroupNorm(2, width), lambda width: nn.BatchNorm2d(width, affine=False)]
)
@torch.no_grad()
def test_norms_without_statistics_or_factors_stay(norm: object) -> None:
    layer = learned(ConvNorm(3, 8, 3, norm=norm))  # type: ignore[arg-type]
    assert isinstance(layer, ConvNorm)
    x = torch.randn(2, 3, 9, 7)
    assert torch.equal(layer(x), torch.relu(layer.norm(layer.conv(x))))


@torch.no_grad()
def test_a_training_norm_counts_its_pictures() -> None:
    layer = learned(ConvNorm(3, 8, 1, norm=nn.BatchNorm2d)).train()
    assert isinstance(layer, ConvNorm) and isinstance(layer.norm, nn.BatchNorm2d)
    x, before = torch.randn(2, 3, 9, 7), layer.norm.running_mean.clone()  # type: ignore[union-attr]
    expected = nn.functional.batch_norm(
        layer.conv(x), None, None, layer.norm.weight, layer.norm.bias, training=True
    )
    torch.testing.assert_close(layer(x), torch.relu(expected))
    assert not torch.equal(layer.norm.running_mean, before)  # type: ignore[arg-type]


@torch.no_grad()
def test_groups_and_dilation_stay_two_steps() -> None:
    for changes in ({"groups": 2}, {"dilation": 2}):
        conv, norm = nn.Conv2d(4, 8, 3, padding=1, **changes), learned(nn.BatchNorm2d(8))  # type: ignore[arg-type]
        x = torch.randn(1, 4, 9, 7)
        assert torch.equal(convolve_and_normalise(conv, norm, x), norm(conv(x)))
