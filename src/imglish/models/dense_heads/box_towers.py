"""What ATSS and GFL share: two stacks of convolutions over every level, one for classes, one for boxes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from imglish.nn.conv_norm import ConvNorm

_RARE = 0.01  # share of cells that are taken for an object of a class before anything is learned


class BoxTowers(nn.Module):
    """Features for classes and features for boxes, the weights shared among levels.

    Args:
        in_width: Channels of the levels.
        width: Channels of the convolutions.
        num_convs: Convolutions of each stack.
        num_groups: Groups of the norms; must divide the width.

    Raises:
        ValueError: The groups do not divide the width, or there are no convolutions between different widths.
    """

    def __init__(self, *, in_width: int, width: int, num_convs: int, num_groups: int) -> None:
        super().__init__()
        if width % num_groups:
            raise ValueError(f"width {width} must be a multiple of num_groups {num_groups}")
        if num_convs == 0 and in_width != width:
            raise ValueError(f"without convolutions width {width} must be that of the levels, {in_width}")

        def norm(channels: int) -> nn.Module:
            return nn.GroupNorm(num_groups, channels)

        def stack() -> nn.Sequential:
            widths = [in_width] + [width] * num_convs
            return nn.Sequential(*(ConvNorm(before, width, 3, norm=norm) for before in widths[:num_convs]))

        self.classes, self.boxes = stack(), stack()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map a level (B, in_width, h, w) to features of classes and of boxes, (B, width, h, w) each."""
        return self.classes(x), self.boxes(x)


def level_scales(num_levels: int) -> nn.ParameterList:
    """A learned factor for each level, (1,) each, 1 at first: boxes of coarse levels are larger."""
    return nn.ParameterList(nn.Parameter(torch.ones(1)) for _ in range(num_levels))


def init_dense_head(head: nn.Module, classifier: nn.Conv2d) -> None:
    """Give all convolutions small weights, and the classifier a bias by which objects are rare."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    assert classifier.bias is not None
    nn.init.constant_(classifier.bias, -math.log((1 - _RARE) / _RARE))


def by_cell(x: Tensor) -> Tensor:
    """Maps (B, K, h, w) as (B, h * w, K), row by row."""
    return x.flatten(2).transpose(1, 2)
