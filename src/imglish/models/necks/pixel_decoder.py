"""Mask2Former's pixel decoder (arXiv 2112.01527): levels look at each other by deformable attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from imglish.nn.conv_norm import ConvNorm, enlarge
from imglish.nn.deformable_attention import DeformableAttention
from imglish.ops.deformable_attention import LevelSizes, reference_points
from imglish.ops.sine_positions import grid_positions
from imglish.structures.pyramid import FeaturePyramid


class PixelDecoderLayer(nn.Module):
    """Deformable self-attention over all levels, then a feed-forward network, each with its norm behind it.

    Args:
        width: Features of a cell.
        num_heads: Heads.
        num_levels: Levels.
        num_points: Points of a head on a level.
        feed_forward_width: Features within the feed-forward network.
    """

    def __init__(
        self, *, width: int, num_heads: int, num_levels: int, num_points: int, feed_forward_width: int
    ) -> None:
        super().__init__()
        self.attention = DeformableAttention(
            width=width, num_heads=num_heads, num_levels=num_levels, num_points=num_points
        )
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, feed_forward_width), nn.ReLU(), nn.Linear(feed_forward_width, width)
        )
        self.feed_forward_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, positions: Tensor, places: Tensor, level_sizes: LevelSizes) -> Tensor:
        """Map cells (B, N, C) to (B, N, C); positions (1, N, C), places (N, 2) as (x, y) in [0, 1]."""
        x = self.attention_norm(x + self.attention(x + positions, places, x, level_sizes))
        y: Tensor = self.feed_forward_norm(x + self.feed_forward(x))
        return y


class PixelDecoder(nn.Module):
    """All levels but the finest attend to each other; the finest joins them for the features of masks.

    Args:
        in_widths: Channels of the levels, fine to coarse.
        width: Channels of all levels after it.
        num_layers: Attention layers.
        num_heads: Heads of deformable attention.
        num_points: Points of a head on a level.
        feed_forward_width: Features within the feed-forward networks.
        num_groups: Groups of the group norms.
    """

    def __init__(
        self,
        in_widths: Sequence[int],
        *,
        width: int = 256,
        num_layers: int = 6,
        num_heads: int = 8,
        num_points: int = 4,
        feed_forward_width: int = 1024,
        num_groups: int = 32,
    ) -> None:
        super().__init__()

        def norm(channels: int) -> nn.Module:
            return nn.GroupNorm(num_groups, channels)

        finest, *attending = in_widths
        self.inputs = nn.ModuleList(  # coarse to fine, as they attend
            ConvNorm(in_width, width, 1, norm=norm, relu=False, bias=True) for in_width in reversed(attending)
        )
        self.level_encoding = nn.Parameter(torch.zeros(len(attending), width))
        self.layers = nn.ModuleList(
            PixelDecoderLayer(
                width=width,
                num_heads=num_heads,
                num_levels=len(attending),
                num_points=num_points,
                feed_forward_width=feed_forward_width,
            )
            for _ in range(num_layers)
        )
        self.lateral = ConvNorm(finest, width, 1, norm=norm, relu=False)
        self.output = ConvNorm(width, width, 3, norm=norm)
        self.mask_features = nn.Conv2d(width, width, 1)
        self._init_weights()

    def forward(self, pyramid: FeaturePyramid) -> tuple[Tensor, FeaturePyramid]:
        """Decode a pyramid.

        Returns:
            The features that masks are made of, (B, width, h, w) at the finest stride, and the pyramid
            (B, width, ...) of the other strides.
        """
        finest, *attending = pyramid.strides
        maps = [
            project(pyramid[stride]) for project, stride in zip(self.inputs, reversed(attending), strict=True)
        ]
        level_sizes: LevelSizes = tuple((x.shape[-2], x.shape[-1]) for x in maps)
        positions = torch.cat(
            [
                (grid_positions(size, x.shape[1], x.device) + level[:, None, None]).flatten(2)
                for size, x, level in zip(level_sizes, maps, self.level_encoding, strict=True)
            ],
            dim=2,
        ).transpose(1, 2)
        places = reference_points(level_sizes, maps[0].device).to(maps[0].dtype)
        cells = torch.cat([x.flatten(2) for x in maps], dim=2).transpose(1, 2)
        for layer in self.layers:
            cells = layer(cells, positions.to(cells.dtype), places, level_sizes)
        parts = cells.transpose(1, 2).split([height * width for height, width in level_sizes], dim=2)
        maps = [part.unflatten(2, size) for part, size in zip(parts, level_sizes, strict=True)]

        lateral = self.lateral(pyramid[finest])
        joined = self.output(lateral + enlarge(maps[-1], (lateral.shape[-2], lateral.shape[-1])))
        decoded = FeaturePyramid(dict(zip(attending, reversed(maps), strict=True)))
        return self.mask_features(joined), decoded

    def _init_weights(self) -> None:
        nn.init.normal_(self.level_encoding)
        for layer in self.layers:
            for parameter in layer.parameters():
                if parameter.ndim > 1:
                    nn.init.xavier_normal_(parameter)
            assert isinstance(layer, PixelDecoderLayer)
            layer.attention.init_weights()
        for level in self.inputs:
            assert isinstance(level, ConvNorm) and level.conv.bias is not None
            nn.init.xavier_uniform_(level.conv.weight)
            nn.init.zeros_(level.conv.bias)
        for conv in (self.lateral.conv, self.output.conv, self.mask_features):
            nn.init.kaiming_uniform_(conv.weight, a=1)  # Caffe2's start: by the inputs alone
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
