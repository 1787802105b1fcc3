"""UPerNet (arXiv 1807.10221): pyramid pooling on the coarsest level, a top-down pyramid, fusion of all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from imglish.nn.conv_norm import ConvNorm, Norm, enlarge
from imglish.ops.pooling import grid_means
from imglish.structures.pyramid import FeaturePyramid


class PyramidPooling(nn.Module):
    """Means over ever finer grids, joined with the map itself (PSPNet, arXiv 1612.01105).

    Args:
        in_width: Channels in.
        width: Channels out, and of each grid.
        pool_scales: Rows and columns of the grids.
        norm: Norm of the convolutions.
    """

    def __init__(self, in_width: int, width: int, pool_scales: Sequence[int], norm: Norm) -> None:
        super().__init__()
        self.pool_scales = tuple(pool_scales)
        self.grids = nn.ModuleList(ConvNorm(in_width, width, 1, norm=norm) for _ in self.pool_scales)
        self.join = ConvNorm(in_width + len(self.pool_scales) * width, width, 3, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_width, H, W) to (B, width, H, W)."""
        size = (x.shape[-2], x.shape[-1])
        pooled = [
            enlarge(grid(grid_means(x, scale)), size)
            for grid, scale in zip(self.grids, self.pool_scales, strict=True)
        ]
        y: Tensor = self.join(torch.cat([x, *pooled], dim=1))
        return y


class UPerNetHead(nn.Module):
    """Logits at the finest stride of a pyramid.

    Args:
        in_widths: Channels of the levels, fine to coarse.
        num_classes: Classes of the logits.
        width: Channels of the head: 512 as published, 1024 in the official BEiT configs.
        pool_scales: Rows and columns of the grids that the coarsest level is pooled to.
        dropout: Share of channels dropped before the classifier.
        norm: Norm of the head: synchronised over ranks where there are several. A batch norm can not
            train on one picture alone: the coarsest grid is a single cell.
    """

    def __init__(
        self,
        *,
        in_widths: Sequence[int],
        num_classes: int,
        width: int = 512,
        pool_scales: Sequence[int] = (1, 2, 3, 6),
        dropout: float = 0.1,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        *finer, coarsest = in_widths
        self.pooling = PyramidPooling(coarsest, width, pool_scales, norm)
        self.laterals = nn.ModuleList(ConvNorm(in_width, width, 1, norm=norm) for in_width in finer)
        self.outputs = nn.ModuleList(ConvNorm(width, width, 3, norm=norm) for _ in finer)
        self.fusion = ConvNorm(len(in_widths) * width, width, 3, norm=norm)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, pyramid: FeaturePyramid) -> Tensor:
        """Map a pyramid to logits (B, num_classes, h, w) at its finest stride."""
        *finer, coarsest = pyramid.strides
        maps: list[Tensor] = [lateral(pyramid[s]) for lateral, s in zip(self.laterals, finer, strict=True)]
        maps.append(self.pooling(pyramid[coarsest]))
        for level in range(len(maps) - 1, 0, -1):
            below = maps[level - 1]
            maps[level - 1] = below + enlarge(maps[level], (below.shape[-2], below.shape[-1]))
        # The coarsest level has had its 3 x 3 convolution at the end of the pooling.
        maps = [*(output(x) for output, x in zip(self.outputs, maps[:-1], strict=True)), maps[-1]]
        size = (maps[0].shape[-2], maps[0].shape[-1])
        fused = self.fusion(torch.cat([maps[0], *(enlarge(x, size) for x in maps[1:])], dim=1))
        logits: Tensor = self.classifier(self.dropout(fused))
        return logits
