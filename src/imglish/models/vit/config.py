"""Sizes and settings of a plain ViT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imglish.nn.patch_embedding import Stem

RelativePositions = Literal["none", "shared", "per_block"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ViTConfig:
    """A plain Vision Transformer in the form of BEiT and BEiT v2.

    Args:
        image_size: (height, width) of the input in pixels (or in codes, for a decoder).
        patch_size: Side of a patch.
        in_channels: Channels of the input.
        stem: How patches are embedded; ``convolutional`` is for small models.
        width: Features of a token.
        depth: Blocks.
        num_heads: Attention heads.
        mlp_ratio: Inner width of the feed-forward network over the width.
        absolute_positions: True adds a learned vector to each place; the released fine-tuned BEiTs have none.
        relative_positions: A learned bias on attention for each offset between two patches: one table for
            all blocks (BEiT's pretraining), or one for each (its fine-tuning).
        layer_scale: Start of the learned factor on each branch; 0 has none.
        drop_path: Stochastic depth of the last block.
    """

    image_size: tuple[int, int] = (224, 224)
    patch_size: int = 16
    in_channels: int = 3
    stem: Stem = "linear"
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    absolute_positions: bool = True
    relative_positions: RelativePositions = "none"
    layer_scale: float = 0.0
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not divisible by num_heads {self.num_heads}")
        for side in self.image_size:
            if side % self.patch_size:
                raise ValueError(f"image side {side} is not divisible by patch_size {self.patch_size}")

    @property
    def grid_size(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size
