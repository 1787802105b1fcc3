"""Levels brought to one width, each by itself: what stands in for FPN in ViT-Adapter's "no FPN" detector."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from imglish.structures.pyramid import FeaturePyramid


class ChannelMapper(nn.Module):
    """A 1 x 1 convolution and a ReLU on each level; coarser levels by pooling.

    Args:
        in_widths: Channels of the levels, fine to coarse.
        width: Channels of all levels after it.
        num_extra: Coarser levels that are added, each the largest values of 2 x 2 cells of the one before; a
            last odd row or column is left out.
    """

    def __init__(self, in_widths: Sequence[int], width: int = 256, *, num_extra: int = 0) -> None:
        super().__init__()
        self.width, self.num_extra = width, num_extra
        self.convs = nn.ModuleList(nn.Conv2d(in_width, width, 1) for in_width in in_widths)
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, pyramid: FeaturePyramid) -> FeaturePyramid:
        """Map a pyramid to one of the same strides and sizes, and coarser ones."""
        strides = list(pyramid.strides)
        maps: list[Tensor] = [
            conv(pyramid[stride]).relu() for conv, stride in zip(self.convs, strides, strict=True)
        ]
        for _ in range(self.num_extra):
            strides.append(strides[-1] * 2)
            sides = maps[-1].shape[-2:]
            maps.append(F.max_pool2d(maps[-1], [min(2, side) for side in sides]))
        return FeaturePyramid(dict(zip(strides, maps, strict=True)))
