"""Feature pyramid network (arXiv 1612.03144): each level learns of the coarser ones."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from imglish.structures.pyramid import FeaturePyramid


class Fpn(nn.Module):
    """Top-down pyramid without norms: lateral 1 x 1, nearest neighbours downwards, 3 x 3.

    Args:
        in_widths: Channels of the levels, fine to coarse.
        width: Channels of all levels after it: 256 as published.
    """

    def __init__(self, in_widths: Sequence[int], width: int = 256) -> None:
        super().__init__()
        self.width = width
        self.laterals = nn.ModuleList(nn.Conv2d(in_width, width, 1) for in_width in in_widths)
        self.outputs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in in_widths)
        for conv in (*self.laterals, *self.outputs):
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, pyramid: FeaturePyramid) -> FeaturePyramid:
        """Map a pyramid to one of the same strides and sizes."""
        strides = pyramid.strides
        maps: list[Tensor] = [
            lateral(pyramid[stride]) for lateral, stride in zip(self.laterals, strides, strict=True)
        ]
        for level in range(len(maps) - 1, 0, -1):
            above = F.interpolate(maps[level], size=maps[level - 1].shape[-2:], mode="nearest")
            maps[level - 1] = maps[level - 1] + above
        outputs = [output(x) for output, x in zip(self.outputs, maps, strict=True)]
        return FeaturePyramid(dict(zip(strides, outputs, strict=True)))
