"""Feature pyramid network (arXiv 1612.03144): each level learns of the coarser ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from imglish.nn.conv_norm import ConvNorm, Norm
from imglish.structures.pyramid import FeaturePyramid

ExtraSource = Literal["pool", "input", "lateral", "output"]


class Fpn(nn.Module):
    """Top-down pyramid: lateral 1 x 1, nearest neighbours downwards, 3 x 3.

    Args:
        in_widths: Channels of all levels given, fine to coarse.
        width: Channels of all levels after it: 256 as published.
        first_level: Number of the finest level that is used; finer ones are left out.
        num_extra: Coarser levels that are added, each of half the size of the one before.
        extra: How: ``pool`` takes every second cell of the coarsest level; otherwise a 3 x 3 convolution of
            stride 2 each, the first over the coarsest ``input`` of the neck, or ``lateral`` or ``output`` of
            that level, every further one over the one before.
        extra_relu: True cuts negative values of added levels before the next one is made of them.
        norm: Makes the norm behind each lateral and output, which then have no bias; None leaves it out.

    Raises:
        ValueError: No level is left, or convolutions for added levels are asked for together with norms,
            which no published pyramid has.
    """

    def __init__(
        self,
        in_widths: Sequence[int],
        width: int = 256,
        *,
        first_level: int = 0,
        num_extra: int = 0,
        extra: ExtraSource = "pool",
        extra_relu: bool = False,
        norm: Norm | None = None,
    ) -> None:
        super().__init__()
        if norm is not None and num_extra and extra != "pool":
            raise ValueError(f"levels added to a pyramid with norms are pooled; got {extra}")
        if not 0 <= first_level < len(in_widths):
            raise ValueError(f"first_level must be one of {len(in_widths)} levels; got {first_level}")
        self.width, self.first_level, self.num_extra = width, first_level, num_extra
        self.extra, self.extra_relu = extra, extra_relu
        used = in_widths[first_level:]
        self.laterals = nn.ModuleList(_conv(in_width, width, 1, norm) for in_width in used)
        self.outputs = nn.ModuleList(_conv(width, width, 3, norm) for _ in used)
        if extra != "pool":  # the official code counts them on behind the outputs
            widths = [used[-1] if extra == "input" else width] + [width] * num_extra
            self.outputs.extend(
                nn.Conv2d(in_width, width, 3, stride=2, padding=1) for in_width in widths[:num_extra]
            )
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.xavier_uniform_(conv.weight)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)

    def forward(self, pyramid: FeaturePyramid) -> FeaturePyramid:
        """Map a pyramid to one of the same strides and sizes from ``first_level`` on, and coarser ones."""
        strides = pyramid.strides[self.first_level :]
        maps: list[Tensor] = [
            lateral(pyramid[stride]) for lateral, stride in zip(self.laterals, strides, strict=True)
        ]
        for level in range(len(maps) - 1, 0, -1):
            above = F.interpolate(maps[level], size=maps[level - 1].shape[-2:], mode="nearest")
            maps[level - 1] = maps[level - 1] + above
        outputs = [output(x) for output, x in zip(self.outputs, maps, strict=False)]
        coarsest = {"input": pyramid[strides[-1]], "lateral": maps[-1]}.get(self.extra, outputs[-1])
        outputs += self._extra_levels(coarsest)
        coarser = [strides[-1] * 2 ** (i + 1) for i in range(self.num_extra)]
        return FeaturePyramid(dict(zip((*strides, *coarser), outputs, strict=True)))

    def _extra_levels(self, x: Tensor) -> list[Tensor]:
        """Coarser levels made of the one they start from."""
        levels: list[Tensor] = []
        convs = list(self.outputs)[len(self.laterals) :]
        for i in range(self.num_extra):
            if self.extra == "pool":
                x = x[:, :, ::2, ::2]
            else:
                x = convs[i](x.relu() if self.extra_relu and i else x)
            levels.append(x)
        return levels


def _conv(in_width: int, width: int, kernel: int, norm: Norm | None) -> nn.Module:
    if norm is None:
        return nn.Conv2d(in_width, width, kernel, padding=kernel // 2)
    return ConvNorm(in_width, width, kernel, norm=norm, relu=False)
