"""Injector, extractor and the interaction that joins them with a group of ViT blocks (section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.nn.deformable_attention import DeformableAttention
from imglish.nn.drop_path import DropPath
from imglish.ops.deformable_attention import LevelSizes

_EPS = 1e-6


class Injector(nn.Module):
    """Bring the spatial features into the ViT's tokens (equation 1); starts as the identity."""

    def __init__(self, width: int, config: ViTAdapterConfig) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(width, eps=_EPS)
        self.feature_norm = nn.LayerNorm(width, eps=_EPS)
        self.attention = DeformableAttention(
            width=width,
            num_heads=config.num_heads,
            num_levels=3,
            num_points=config.num_points,
            ratio=config.value_ratio,
        )
        self.gamma = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, places: Tensor, spatial: Tensor, level_sizes: LevelSizes) -> Tensor:
        """Map ViT tokens (B, N, C); ``spatial`` (B, M, C) are the tokens of three levels."""
        y: Tensor = self.attention(self.query_norm(x), places, self.feature_norm(spatial), level_sizes)
        return x + self.gamma * y


class ConvFeedForward(nn.Module):
    """Linear, depth-wise 3x3 convolution on each level's map, GELU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor, level_sizes: LevelSizes) -> Tensor:
        """Map tokens (B, M, C) of several levels; each level is convolved as a map of its own size."""
        x = self.fc1(x)
        parts = []
        for part, size in zip(x.split([h * w for h, w in level_sizes], dim=1), level_sizes, strict=True):
            parts.append(self.depthwise(part.transpose(1, 2).unflatten(2, size)).flatten(2).transpose(1, 2))
        y: Tensor = self.fc2(F.gelu(torch.cat(parts, dim=1)))
        return y


class Extractor(nn.Module):
    """Bring the ViT's features into the spatial tokens (equations 2 and 3)."""

    def __init__(self, width: int, config: ViTAdapterConfig) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(width, eps=_EPS)
        self.feature_norm = nn.LayerNorm(width, eps=_EPS)
        self.attention = DeformableAttention(
            width=width,
            num_heads=config.num_heads,
            num_levels=1,
            num_points=config.num_points,
            ratio=config.value_ratio,
        )
        self.feed_forward_norm = nn.LayerNorm(width, eps=_EPS)
        self.feed_forward = ConvFeedForward(width, int(width * config.feed_forward_ratio))
        self.drop_path = DropPath(config.drop_path)

    def forward(
        self, spatial: Tensor, places: Tensor, x: Tensor, grid: tuple[int, int], level_sizes: LevelSizes
    ) -> Tensor:
        """Map spatial tokens (B, M, C); ``x`` (B, N, C) are the ViT's patch tokens on ``grid``."""
        y = self.attention(self.query_norm(spatial), places, self.feature_norm(x), (grid,))
        spatial = spatial + y
        y = self.drop_path(self.feed_forward(self.feed_forward_norm(spatial), level_sizes))
        spatial = spatial + y
        return spatial


class Interaction(nn.Module):
    """The adapter's parts around one group of ViT blocks."""

    def __init__(self, width: int, config: ViTAdapterConfig, *, num_extra_extractors: int) -> None:
        super().__init__()
        self.injector = Injector(width, config)
        self.extractor = Extractor(width, config)
        self.extra_extractors = nn.ModuleList(Extractor(width, config) for _ in range(num_extra_extractors))
