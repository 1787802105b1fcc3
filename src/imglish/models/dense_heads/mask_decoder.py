"""Mask2Former's Transformer decoder (arXiv 2112.01527): queries that look where their masks are."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.nn.conv_norm import enlarge
from imglish.ops.sine_positions import grid_positions
from imglish.structures.mask_predictions import MaskPredictions
from imglish.structures.pyramid import FeaturePyramid


class QueryAttention(nn.Module):
    """Multi-head attention of queries on anything.

    Args:
        width: Features of queries, keys and values.
        num_heads: Heads; must divide the width.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.projection = nn.Linear(width, 3 * width)  # of queries, keys, values
        self.output = nn.Linear(width, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None) -> Tensor:
        """Let queries (B, Q, C) look at keys and values (B, N, C); ``visible`` bool (B, Q, N)."""
        parts = zip(
            (query, key, value), self.projection.weight.chunk(3), self.projection.bias.chunk(3), strict=True
        )
        q, k, v = (
            F.linear(x, *part).unflatten(2, (self.num_heads, -1)).transpose(1, 2) for x, *part in parts
        )
        mask = None if visible is None else visible[:, None]
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y: Tensor = self.output(seen.transpose(1, 2).flatten(2))
        return y


class MaskDecoderLayer(nn.Module):
    """Masked cross-attention, self-attention, feed-forward network, each with its norm behind it.

    Args:
        width: Features of a query.
        num_heads: Heads.
        feed_forward_width: Features within the feed-forward network.
    """

    def __init__(self, *, width: int, num_heads: int, feed_forward_width: int) -> None:
        super().__init__()
        self.cross_attention = QueryAttention(width, num_heads)
        self.cross_norm = nn.LayerNorm(width)
        self.self_attention = QueryAttention(width, num_heads)
        self.self_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, feed_forward_width), nn.ReLU(), nn.Linear(feed_forward_width, width)
        )
        self.feed_forward_norm = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, query_positions: Tensor, cells: Tensor, cell_positions: Tensor, visible: Tensor
    ) -> Tensor:
        """Update queries.

        Args:
            x: Queries (B, Q, C).
            query_positions: Added to queries where they are compared, (Q, C).
            cells: A level's cells (B, N, C).
            cell_positions: Added to cells where they are compared, (1, N, C).
            visible: bool (B, Q, N), True where a query may look.
        """
        looked = self.cross_attention(x + query_positions, cells + cell_positions, cells, visible)
        x = self.cross_norm(x + looked)
        placed = x + query_positions
        x = self.self_norm(x + self.self_attention(placed, placed, x))
        y: Tensor = self.feed_forward_norm(x + self.feed_forward(x))
        return y


class MaskDecoder(nn.Module):
    """Queries become classes and masks, before the first layer and after each.

    Args:
        width: Features of queries and cells: those of the pixel decoder.
        num_classes: Classes, without "no object".
        num_queries: Queries.
        num_layers: Layers; layer i reads level i modulo the number of levels, coarse to fine.
        num_levels: Levels.
        num_heads: Heads.
        feed_forward_width: Features within the feed-forward networks.
    """

    def __init__(
        self,
        *,
        width: int,
        num_classes: int,
        num_queries: int = 100,
        num_layers: int = 9,
        num_levels: int = 3,
        num_heads: int = 8,
        feed_forward_width: int = 2048,
    ) -> None:
        super().__init__()
        self.query_features = nn.Parameter(torch.zeros(num_queries, width))
        self.query_positions = nn.Parameter(torch.zeros(num_queries, width))
        self.level_embedding = nn.Parameter(torch.zeros(num_levels, width))
        self.layers = nn.ModuleList(
            MaskDecoderLayer(width=width, num_heads=num_heads, feed_forward_width=feed_forward_width)
            for _ in range(num_layers)
        )
        self.output_norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, num_classes + 1)
        self.mask_embedding = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )
        for table in (self.query_features, self.query_positions, self.level_embedding):
            nn.init.normal_(table)
        for parameter in self.layers.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_normal_(parameter)

    def forward(self, mask_features: Tensor, pyramid: FeaturePyramid) -> tuple[MaskPredictions, ...]:
        """Decode masks.

        Args:
            mask_features: (B, C, h, w), which masks are made of.
            pyramid: Levels (B, C, ...) that the queries look at.

        Returns:
            Predictions before the first layer and after each; the last is the answer.
        """
        strides = sorted(pyramid.strides, reverse=True)
        maps = [pyramid[stride] for stride in strides]
        sizes = [(x.shape[-2], x.shape[-1]) for x in maps]
        levels = [
            x.flatten(2).transpose(1, 2) + embedding
            for x, embedding in zip(maps, self.level_embedding, strict=True)
        ]
        positions = [
            grid_positions(size, x.shape[1], x.device).to(x.dtype).flatten(2).transpose(1, 2)
            for size, x in zip(sizes, maps, strict=True)
        ]
        x = self.query_features.expand(mask_features.shape[0], -1, -1)
        predictions = [self._predict(x, mask_features)]
        for index, layer in enumerate(self.layers):
            level = index % len(levels)
            visible = _inside(predictions[-1].masks, sizes[level])
            x = layer(x, self.query_positions, levels[level], positions[level], visible)
            predictions.append(self._predict(x, mask_features))
        return tuple(predictions)

    def _predict(self, x: Tensor, mask_features: Tensor) -> MaskPredictions:
        x = self.output_norm(x)
        masks = torch.einsum("bqc,bchw->bqhw", self.mask_embedding(x), mask_features)
        return MaskPredictions(self.classifier(x), masks)


def _inside(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Where queries may look: bool (B, Q, N) from logits (B, Q, h, w); everywhere where a mask is empty."""
    inside = (enlarge(masks.detach().float(), size).sigmoid() >= 0.5).flatten(2)
    return inside | ~inside.any(dim=2, keepdim=True)
