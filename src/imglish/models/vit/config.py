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

    @property
    def initial_std(self) -> float:
        """Deviation of new weights: 0.02 as in BEiT, width^-0.5 with the small models' stem."""
        return 0.02 if self.stem == "linear" else self.width**-0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchAggregationConfig:
    """How BEiT v2 makes the class token gather the whole picture in pretraining (its section 2.3).

    Patches as they are after an early block, and the class token as it is after the last one, go through a
    few blocks more, and must tell the hidden visual tokens a second time: what the early patches lack has to
    come through the class token.

    Args:
        early_layers: Blocks after which the patches are taken: 9 of base's 12, 21 of large's 24.
        num_blocks: Blocks of the second way.
        shared_head: Both ways are read by one norm and one head, as in the released models; False gives the
            second its own.
    """

    early_layers: int = 9
    num_blocks: int = 2
    shared_head: bool = True

    def __post_init__(self) -> None:
        if self.early_layers < 1:
            raise ValueError(f"early_layers counts blocks from 1; got {self.early_layers}")
        if self.num_blocks < 1:
            raise ValueError(f"num_blocks must be at least 1; got {self.num_blocks}")
