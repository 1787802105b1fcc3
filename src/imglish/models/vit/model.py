"""The plain ViT of BEiT (arXiv 2106.08254) and BEiT v2 (arXiv 2208.06366), and as adapters hold it.

Shapes: B batch, N patches, P prefix tokens (the class token, if there is one), C width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from imglish.models.vit.block import Block
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.positions import (
    RelativePositionBias,
    relative_position_index,
    resample_positions,
    resize_positions,
)
from imglish.nn.drop_path import drop_path_rates
from imglish.nn.init import rescale_output, truncated_normal_
from imglish.nn.patch_embedding import PatchEmbedding

Pooling = Literal["mean", "class_token"]


class ViT(nn.Module):
    """Pictures to normalised patch features.

    It can be held by a ViT-Adapter, block by block: see `embed` and `run_blocks`.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.num_prefix = int(config.class_token)
        self.width, self.depth, self.patch_size = config.width, config.depth, config.patch_size
        rows, columns = config.grid_size
        self.patches = PatchEmbedding(
            patch_size=config.patch_size, width=config.width, stem=config.stem, in_channels=config.in_channels
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width)) if config.class_token else None
        self.positions = self.time_positions = None
        if config.absolute_positions:
            num_positions = int(config.class_position) + rows * columns
            self.positions = nn.Parameter(torch.zeros(1, num_positions, config.width))
        if config.time_positions:
            self.time_positions = nn.Parameter(torch.zeros(config.time_positions, config.width))
        self.embedding_norm: nn.Module = nn.Identity()
        if config.embedding_norm:
            self.embedding_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.relative_positions = None
        if config.relative_positions == "shared":
            self.relative_positions = RelativePositionBias(
                config.grid_size, config.num_heads, class_token=config.class_token
            )
        self.blocks = nn.ModuleList(_blocks(config))
        self.norm: nn.Module = nn.Identity()
        if config.output_norm:
            self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self._init_weights()

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, channels, H, W) to patch features (B, N, C), row by row, class token left out."""
        features: Tensor = self.norm(self.tokens(images)[:, self.num_prefix :])
        return features

    def tokens(self, images: Tensor) -> Tensor:
        """Map (B, channels, H, W) to what the last block gives (B, P + N, C), class token first, no norm."""
        x, grid = self.embed(images)
        return self.run_blocks(x, 0, self.depth, grid)

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Pictures (B, channels, H, W) to the first block's input (B, P + N, C), and (rows, columns).

        Raises:
            ValueError: The picture does not divide into patches, or has another size than the config's while
                the model has relative positions of the whole picture and does not resample them.
        """
        grid = self.check_grid(images)
        return self.place(self.patches(images), grid), grid

    def check_grid(self, images: Tensor) -> tuple[int, int]:
        """(rows, columns) of patches of pictures (B, channels, H, W); raises as `embed` does."""
        config = self.config
        grid = self.patches.grid_size(images.shape[-2], images.shape[-1])
        own, bound = config.grid_size, config.relative_positions != "none" and not config.resample_relative
        if bound and grid != own and not all(config.window(block) for block in range(self.depth)):
            raise ValueError(
                f"a grid of {grid} patches does not fit relative positions made for {own}; "
                f"resize pictures to {config.image_size}"
            )
        return grid

    def place(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """Add positions to patches (B, N, C) of a grid, class token first if there is one: (B, P + N, C)."""
        x = patches
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        if self.positions is not None:
            x = x + self._positions(self.positions, grid)
        if self.time_positions is not None:
            x = x + self.time_positions[0]
        y: Tensor = self.embedding_norm(x)
        return y

    def _positions(self, positions: Tensor, grid: tuple[int, int]) -> Tensor:
        """Positions (1, P + N, C) for a grid."""
        config, num_class = self.config, int(self.config.class_position)
        if config.position_resampling == "scale":
            positions = resample_positions(positions, config.grid_size, grid, num_prefix=num_class)
        else:
            positions = resize_positions(positions, config.grid_size, grid, num_prefix=num_class)
        return positions[:, num_class - self.num_prefix :]

    def run_blocks(self, tokens: Tensor, start: int, stop: int, grid: tuple[int, int]) -> Tensor:
        """Apply blocks ``start`` to ``stop`` (exclusive) to tokens (B, P + N, C) of patches on ``grid``."""
        bias = None if self.relative_positions is None else self.relative_positions(grid)
        for index in range(start, stop):
            tokens = self.blocks[index](tokens, grid, bias)
        return tokens

    def _init_weights(self) -> None:
        """Deviation 0.02, or width^-0.5 with the small models' stem; BEiT's outputs divided by sqrt(2 l)."""
        std = self.config.initial_std
        for module in self.modules():
            if isinstance(module, nn.Linear):
                truncated_normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for vectors in (self.class_token, self.positions, self.time_positions):
            if vectors is not None:
                truncated_normal_(vectors, std=std)
        if not self.config.rescale_outputs:
            return
        for layer, block in enumerate(self.blocks, start=1):
            assert isinstance(block, Block)
            rescale_output(block.attention.output, layer)
            rescale_output(block.feed_forward.fc2, layer)


def _blocks(config: ViTConfig) -> Iterator[Block]:
    """The blocks; those with tables of one grid share their index."""
    indices: dict[tuple[int, int], Tensor] = {}
    for layer, rate in enumerate(drop_path_rates(config.drop_path, config.depth)):
        window = config.window(layer)
        grid = (window, window) if window else config.grid_size
        if config.relative_positions == "per_block" and grid not in indices:
            indices[grid] = relative_position_index(grid, class_token=config.class_token)
        bottleneck = layer in config.residual_blocks
        yield Block(config, rate, window=window, bottleneck=bottleneck, index=indices.get(grid))


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
        pooled = tokens[:, self.vit.num_prefix :].mean(dim=1) if self.pooling == "mean" else tokens[:, 0]
        features: Tensor = self.vit.norm(pooled)
        return features
