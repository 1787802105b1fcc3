"""The plain ViT of BEiT (arXiv 2106.08254) and BEiT v2 (arXiv 2208.06366): keys have no bias.

Shapes: B batch, N patches, C width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.models.vit.config import ViTConfig
from imglish.models.vit.positions import RelativePositionBias, resample_positions
from imglish.nn.drop_path import DropPath, drop_path_rates
from imglish.nn.feed_forward import FeedForward
from imglish.nn.init import rescale_output, truncated_normal_
from imglish.nn.patch_embedding import PatchEmbedding

Pooling = Literal["mean", "class_token"]

_EPS = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention whose queries and values have a bias and whose keys have none."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        width = config.width
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_bias = nn.Parameter(torch.zeros(width))
        self.value_bias = nn.Parameter(torch.zeros(width))
        self.relative_positions = None
        if config.relative_positions == "per_block":
            self.relative_positions = RelativePositionBias(config.grid_size, config.num_heads)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map tokens (B, 1 + N, C) to (B, 1 + N, C).

        Args:
            x: Tokens, class token first.
            bias: Added to the attention logits, (heads, 1 + N, 1 + N), where all blocks share a table.
        """
        qkv_bias = torch.cat([self.query_bias, torch.zeros_like(self.query_bias), self.value_bias])
        qkv = F.linear(x, self.qkv.weight, qkv_bias)
        query, key, value = qkv.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if self.relative_positions is not None:
            bias = self.relative_positions()
        mask = None if bias is None else bias[None].to(query.dtype)
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        z: Tensor = self.output(y.transpose(1, 2).flatten(2))
        return z


class Block(nn.Module):
    """Attention, then feed-forward, each a residual branch with an optional learned scale."""

    def __init__(self, config: ViTConfig, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=_EPS)
        self.attention = Attention(config)
        self.norm2 = nn.LayerNorm(config.width, eps=_EPS)
        self.feed_forward = FeedForward(config.width, int(config.width * config.mlp_ratio))
        self.scale1 = self.scale2 = None
        if config.layer_scale > 0:
            self.scale1 = nn.Parameter(torch.full((config.width,), config.layer_scale))
            self.scale2 = nn.Parameter(torch.full((config.width,), config.layer_scale))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Refine tokens (B, 1 + N, C), with a bias on attention (heads, 1 + N, 1 + N)."""
        y = self.attention(self.norm1(x), bias)
        x = x + self.drop_path(y if self.scale1 is None else self.scale1 * y)
        y = self.feed_forward(self.norm2(x))
        x = x + self.drop_path(y if self.scale2 is None else self.scale2 * y)
        return x


class ViT(nn.Module):
    """Pictures to normalised patch features.

    It can be held by a ViT-Adapter, block by block: see `embed` and `run_blocks`.
    """

    num_prefix = 1

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.depth, self.patch_size = config.width, config.depth, config.patch_size
        rows, columns = config.grid_size
        self.patches = PatchEmbedding(
            patch_size=config.patch_size, width=config.width, stem=config.stem, in_channels=config.in_channels
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = None
        if config.absolute_positions:
            self.positions = nn.Parameter(torch.zeros(1, 1 + rows * columns, config.width))
        self.relative_positions = None
        if config.relative_positions == "shared":
            self.relative_positions = RelativePositionBias(config.grid_size, config.num_heads)
        rates = drop_path_rates(config.drop_path, config.depth)
        self.blocks = nn.ModuleList(Block(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(config.width, eps=_EPS)
        self._init_weights()

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, channels, H, W) to patch features (B, N, C), row by row, class token left out."""
        features: Tensor = self.norm(self.tokens(images)[:, 1:])
        return features

    def tokens(self, images: Tensor) -> Tensor:
        """Map (B, channels, H, W) to what the last block gives (B, 1 + N, C), class token first, no norm."""
        x, _ = self.embed(images)
        return self.run_blocks(x, 0, self.depth)

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Pictures (B, channels, H, W) to the first block's input (B, 1 + N, C), and (rows, columns).

        Raises:
            ValueError: The picture does not divide into patches, or has another size than the config's while
                the model has relative positions, whose table belongs to one grid.
        """
        grid = self.check_grid(images)
        return self.place(self.patches(images), grid), grid

    def check_grid(self, images: Tensor) -> tuple[int, int]:
        """(rows, columns) of patches of pictures (B, channels, H, W); raises as `embed` does."""
        grid = self.patches.grid_size(images.shape[-2], images.shape[-1])
        own = self.config.grid_size
        if grid != own and self.config.relative_positions != "none":
            raise ValueError(
                f"a grid of {grid} patches does not fit relative positions made for {own}; "
                f"resize pictures to {self.config.image_size}"
            )
        return grid

    def place(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """Put the class token before patches (B, N, C) of a grid and add positions: (B, 1 + N, C)."""
        x = torch.cat([self.class_token.expand(len(patches), -1, -1), patches], dim=1)
        if self.positions is not None:
            x = x + resample_positions(self.positions, self.config.grid_size, grid)
        return x

    def run_blocks(self, tokens: Tensor, start: int, stop: int) -> Tensor:
        """Apply blocks ``start`` to ``stop`` (exclusive) to tokens (B, 1 + N, C)."""
        bias = None if self.relative_positions is None else self.relative_positions()
        for index in range(start, stop):
            tokens = self.blocks[index](tokens, bias)
        return tokens

    def _init_weights(self) -> None:
        """Deviation 0.02, or width^-0.5 with the small models' stem; outputs divided by sqrt(2 l)."""
        std = self.config.initial_std
        for module in self.modules():
            if isinstance(module, nn.Linear):
                truncated_normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        truncated_normal_(self.class_token, std=std)
        if self.positions is not None:
            truncated_normal_(self.positions, std=std)
        for layer, block in enumerate(self.blocks, start=1):
            assert isinstance(block, Block)
            rescale_output(block.attention.output, layer)
            rescale_output(block.feed_forward.fc2, layer)


class ViTForClassification(nn.Module):
    """A class for a picture, from the mean of its patches (BEiT's fine-tuning) or from the class token.

    Args:
        config: The ViT.
        num_classes: Number of classes.
        pooling: Which tokens the class is read from; they are normalised after the mean.
    """

    def __init__(self, config: ViTConfig, num_classes: int, *, pooling: Pooling = "mean") -> None:
        super().__init__()
        self.vit = ViT(config)
        self.pooling = pooling
        self.head = nn.Linear(config.width, num_classes)
        # As in BEiT's fine-tuning: the first gradients come from nearly equal logits.
        truncated_normal_(self.head.weight, std=0.02 * 0.001)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map pictures (B, channels, H, W) to logits (B, classes)."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Map pictures (B, channels, H, W) to one vector each (B, C)."""
        tokens = self.vit.tokens(images)
        pooled = tokens[:, 1:].mean(dim=1) if self.pooling == "mean" else tokens[:, 0]
        features: Tensor = self.vit.norm(pooled)
        return features
