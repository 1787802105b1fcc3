"""Injector, extractor and the interaction that joins them with a group of ViT blocks (section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.models.vit_adapter.attention import MapAttention
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.nn.deformable_attention import DeformableAttention
from imglish.nn.drop_path import DropPath
from imglish.nn.linear import Linear
from imglish.ops.deformable_attention import LevelSizes
from imglish.ops.maps import as_map


class Injector(nn.Module):
    """Bring the spatial features into the ViT's tokens (equation 1); by default it starts as the identity."""

    def __init__(self, width: int, config: ViTAdapterConfig) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.feature_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.attention = _attention(width, config, num_levels=3)
        self.gamma = nn.Parameter(torch.full((width,), config.injector_scale))

    def forward(
        self, x: Tensor, places: Tensor, spatial: Tensor, level_sizes: LevelSizes, grid: tuple[int, int]
    ) -> Tensor:
        """Map ViT tokens (B, N, C).

        Args:
            x: Patch tokens on ``grid``, prefix tokens left out.
            places: Their places (N, 2) as (x, y) in [0, 1].
            spatial: (B, M, C), the tokens of three levels.
            level_sizes: (height, width) of the levels.
            grid: (rows, columns) of the patches.
        """
        query, values = self.query_norm(x), self.feature_norm(spatial)
        y = _attend(self.attention, query, places, (grid,), values, level_sizes)
        return torch.addcmul(x, self.gamma, y)


class ConvFeedForward(nn.Module):
    """Linear, depth-wise 3x3 convolution on each level's map, GELU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = Linear(hidden, width)

    def forward(self, x: Tensor, level_sizes: LevelSizes) -> Tensor:
        """Map tokens (B, M, C) of several levels; each level is convolved as a map of its own size."""
        x = self.fc1(x)
        parts = []
        for part, size in zip(x.split([h * w for h, w in level_sizes], dim=1), level_sizes, strict=True):
            parts.append(self.depthwise(as_map(part, size)).permute(0, 2, 3, 1).flatten(1, 2))
        y: Tensor = self.fc2(F.gelu(torch.cat(parts, dim=1)))
        return y


class Extractor(nn.Module):
    """Bring the ViT's features into the spatial tokens (equations 2 and 3)."""

    def __init__(self, width: int, config: ViTAdapterConfig) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.feature_norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.attention = _attention(width, config, num_levels=1)
        self.feed_forward: ConvFeedForward | None = None
        if config.feed_forward_ratio > 0:
            self.feed_forward_norm = nn.LayerNorm(width, eps=config.norm_eps)
            self.feed_forward = ConvFeedForward(width, int(width * config.feed_forward_ratio))
            self.drop_path = DropPath(config.drop_path)

    def forward(
        self, spatial: Tensor, places: Tensor, x: Tensor, grid: tuple[int, int], level_sizes: LevelSizes
    ) -> Tensor:
        """Map spatial tokens (B, M, C).

        Args:
            spatial: Tokens of three levels.
            places: Their places (M, 2) as (x, y) in [0, 1].
            x: (B, N, C), the ViT's patch tokens on ``grid``.
            grid: (rows, columns) of the patches.
            level_sizes: (height, width) of the levels.
        """
        query, values = self.query_norm(spatial), self.feature_norm(x)
        spatial = spatial + _attend(self.attention, query, places, level_sizes, values, (grid,))
        if self.feed_forward is not None:
            y = self.drop_path(self.feed_forward(self.feed_forward_norm(spatial), level_sizes))
            spatial = spatial + y
        return spatial


class Interaction(nn.Module):
    """The adapter's parts around one group of ViT blocks.

    ``injector`` is None and ``extractors`` is empty where the config has no such components.
    """

    def __init__(self, width: int, config: ViTAdapterConfig, *, num_extra_extractors: int) -> None:
        super().__init__()
        self.injector = Injector(width, config) if config.has_injectors else None
        self.extractor = Extractor(width, config) if config.has_extractors else None
        extra = num_extra_extractors if config.has_extractors else 0
        self.extra_extractors = nn.ModuleList(Extractor(width, config) for _ in range(extra))

    @property
    def extractors(self) -> list[nn.Module]:
        """The extractor and those after it, in their order."""
        return [] if self.extractor is None else [self.extractor, *self.extra_extractors]


def _attend(
    attention: nn.Module,
    query: Tensor,
    places: Tensor,
    sizes: LevelSizes,
    values: Tensor,
    value_sizes: LevelSizes,
) -> Tensor:
    """Attend from maps of ``sizes`` to maps of ``value_sizes``; deformable attention knows places instead."""
    y: Tensor
    if isinstance(attention, MapAttention):
        y = attention(query, sizes, values, value_sizes)
    else:
        y = attention(query, places, values, value_sizes)
    return y


def _attention(width: int, config: ViTAdapterConfig, *, num_levels: int) -> nn.Module:
    if config.attention != "deformable":
        return MapAttention(width=width, num_heads=config.num_heads, pattern=config.attention)
    return DeformableAttention(
        width=width,
        num_heads=config.num_heads,
        num_levels=num_levels,
        num_points=config.num_points,
        ratio=config.value_ratio,
    )
