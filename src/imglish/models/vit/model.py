"""The plain ViT of BEiT v2 (arXiv 2208.06366): absolute positions, keys without bias, normalised patches.

Shapes: B batch, N patches, C width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.models.vit.config import ViTConfig
from imglish.nn.drop_path import DropPath, drop_path_rates
from imglish.nn.feed_forward import FeedForward
from imglish.nn.init import rescale_output, truncated_normal_
from imglish.nn.patch_embedding import PatchEmbedding

_EPS = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention whose queries and values have a bias and whose keys have none."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_bias = nn.Parameter(torch.zeros(width))
        self.value_bias = nn.Parameter(torch.zeros(width))
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, 1 + N, C) to (B, 1 + N, C)."""
        bias = torch.cat([self.query_bias, torch.zeros_like(self.query_bias), self.value_bias])
        qkv = F.linear(x, self.qkv.weight, bias)
        query, key, value = qkv.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(query, key, value)
        z: Tensor = self.output(y.transpose(1, 2).flatten(2))
        return z


class Block(nn.Module):
    """Attention, then feed-forward, each a residual branch with an optional learned scale."""

    def __init__(self, config: ViTConfig, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=_EPS)
        self.attention = Attention(config.width, config.num_heads)
        self.norm2 = nn.LayerNorm(config.width, eps=_EPS)
        self.feed_forward = FeedForward(config.width, int(config.width * config.mlp_ratio))
        self.scale1 = self.scale2 = None
        if config.layer_scale > 0:
            self.scale1 = nn.Parameter(torch.full((config.width,), config.layer_scale))
            self.scale2 = nn.Parameter(torch.full((config.width,), config.layer_scale))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Refine tokens (B, 1 + N, C)."""
        y = self.attention(self.norm1(x))
        x = x + self.drop_path(y if self.scale1 is None else self.scale1 * y)
        y = self.feed_forward(self.norm2(x))
        x = x + self.drop_path(y if self.scale2 is None else self.scale2 * y)
        return x


class ViT(nn.Module):
    """Pictures to normalised patch features."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        rows, columns = config.grid_size
        self.patches = PatchEmbedding(
            patch_size=config.patch_size, width=config.width, stem=config.stem, in_channels=config.in_channels
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + rows * columns, config.width))
        rates = drop_path_rates(config.drop_path, config.depth)
        self.blocks = nn.ModuleList(Block(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(config.width, eps=_EPS)
        self._init_weights()

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, channels, H, W) to patch features (B, N, C), row by row, class token left out."""
        x = self.patches(images)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.positions
        for block in self.blocks:
            x = block(x)
        features: Tensor = self.norm(x[:, 1:])
        return features

    def _init_weights(self) -> None:
        """Deviation 0.02, or width^-0.5 with the small models' stem; outputs divided by sqrt(2 l)."""
        std = 0.02 if self.config.stem == "linear" else self.config.width**-0.5
        for module in self.modules():
            if isinstance(module, nn.Linear):
                truncated_normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        truncated_normal_(self.class_token, std=std)
        truncated_normal_(self.positions, std=std)
        for layer, block in enumerate(self.blocks, start=1):
            assert isinstance(block, Block)
            rescale_output(block.attention.output, layer)
            rescale_output(block.feed_forward.fc2, layer)
