"""Sizes and settings of a Multiway Transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imglish.nn.patch_embedding import Stem


@dataclass(frozen=True, kw_only=True, slots=True)
class Beit3Config:
    """One Multiway Transformer.

    Two published architectures are settings of this config. The paper's giant shares attention and norms
    among the modalities and has vision-language experts in its top three layers; the released base and
    large split everything by modality and add sub-layer norms (Magneto).

    Args:
        image_size: (height, width) of the pictures in pixels.
        patch_size: Side of a patch in pixels.
        stem: How patches are embedded; ``convolutional`` is for small models.
        vocab_size: Rows of the text embedding.
        max_text_tokens: Longest text, special tokens included.
        width: Features of a token.
        depth: Blocks.
        num_heads: Attention heads.
        feed_forward_width: Inner features of the feed-forward networks.
        split_attention: True gives each modality its own projections and norms; False shares them.
        sub_norm: True adds norms inside attention and feed-forward networks.
        num_fusion_layers: How many top layers have a third feed-forward expert for fused sequences.
        output_norm: True normalises the output. The released classification and VQA models do not:
            their heads do.
        drop_path: Stochastic depth of the last block, linear from 0 in the first.
        init: ``paper`` is the rule of section 2.3 (deviation 0.02, outputs divided by sqrt(2 l));
            ``released`` is that of the released fine-tuning code (deviation 0.02 cut at 0.02);
            ``scaled`` has deviation width^-0.5, for small models, which start too slowly with 0.02.
    """

    image_size: tuple[int, int] = (224, 224)
    patch_size: int = 16
    stem: Stem = "linear"
    vocab_size: int = 64010
    max_text_tokens: int = 1022
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    feed_forward_width: int = 3072
    split_attention: bool = True
    sub_norm: bool = True
    num_fusion_layers: int = 0
    output_norm: bool = True
    drop_path: float = 0.0
    init: Literal["paper", "released", "scaled"] = "released"

    def __post_init__(self) -> None:
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not divisible by num_heads {self.num_heads}")
        for side in self.image_size:
            if side % self.patch_size:
                raise ValueError(f"image side {side} is not divisible by patch_size {self.patch_size}")
        if not 0 <= self.num_fusion_layers <= self.depth:
            raise ValueError(
                f"num_fusion_layers must lie in 0..depth; got {self.num_fusion_layers} of {self.depth}"
            )
        if not 0.0 <= self.drop_path < 1.0:
            raise ValueError(f"drop_path must lie in [0, 1); got {self.drop_path}")

    @property
    def grid_size(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def num_patches(self) -> int:
        """Patches of a picture."""
        return self.grid_size[0] * self.grid_size[1]


def beit3_base(*, image_size: tuple[int, int] = (224, 224), drop_path: float = 0.0) -> Beit3Config:
    """Released base size: 12 layers, width 768, 12 heads, 221M parameters."""
    return Beit3Config(image_size=image_size, drop_path=drop_path)


def beit3_large(*, image_size: tuple[int, int] = (224, 224), drop_path: float = 0.0) -> Beit3Config:
    """Released large size: 24 layers, width 1024, 16 heads, 673M parameters."""
    return Beit3Config(
        image_size=image_size,
        width=1024,
        depth=24,
        num_heads=16,
        feed_forward_width=4096,
        drop_path=drop_path,
    )


def beit3_giant(*, image_size: tuple[int, int] = (224, 224), drop_path: float = 0.1) -> Beit3Config:
    """The paper's giant (table 2): 40 layers, width 1408, 16 heads, patches of 14; 1.9B parameters."""
    return Beit3Config(
        image_size=image_size,
        patch_size=14,
        width=1408,
        depth=40,
        num_heads=16,
        feed_forward_width=6144,
        split_attention=False,
        sub_norm=False,
        num_fusion_layers=3,
        drop_path=drop_path,
        init="paper",
    )
