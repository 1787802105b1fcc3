"""Sizes and settings of a plain ViT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imglish.nn.patch_embedding import Stem

RelativePositions = Literal["none", "shared", "per_block"]
AttentionBias = Literal["query_value", "all", "none"]
PositionResampling = Literal["scale", "size"]
WindowPadding = Literal["input", "projected"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ViTConfig:
    """A plain Vision Transformer; the defaults are the form of BEiT and BEiT v2.

    The official ViT-Adapter's ViT, BEiT and Uni-Perceiver are other settings of the same model, see
    `models.vit_adapter.presets`.

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
        class_token: False has patches alone.
        attention_bias: Which projections of attention have a bias: BEiT's keys have none.
        norm_eps: Epsilon of all norms.
        output_norm: True has a norm after the last block.
        rescale_outputs: True starts the last linear of block l divided by sqrt(2 l), as BEiT's do.
        windows: Side in patches of each block's attention windows, 0 where a block sees the whole picture;
            empty has no windows. Pictures need not divide into windows.
        window_padding: What is padded with zeros to whole windows: the ``input`` of the projections, so that
            padding has their bias (BEiT, Uni-Perceiver), or queries, keys and values once ``projected``
            (ViT). No mask hides padding in either.
        class_position: False has no position for the class token. The official ViT-Adapter keeps that row of
            a ViT's table although it drops the token.
        position_resampling: Where absolute positions are resampled for another picture, bicubic by the
            ``scale`` of a tenth of a patch more (BEiT v2), or by the ``size`` (ViT-Adapter).
        resample_relative: True resamples tables of relative positions where the picture has another size,
            False refuses the picture.
        embedding_norm: True normalises patches with their positions (Uni-Perceiver).
        time_positions: Rows of a table of positions in time, of which a picture has the first
            (Uni-Perceiver's has 8).
        layer_scale_from_zero: True has learned factors that start at 0 (Uni-Perceiver).
        residual_blocks: Blocks that end in a convolutional bottleneck (ViTDet's, arXiv 2203.16527).
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
    class_token: bool = True
    attention_bias: AttentionBias = "query_value"
    norm_eps: float = 1e-6
    output_norm: bool = True
    rescale_outputs: bool = True
    windows: tuple[int, ...] = ()
    window_padding: WindowPadding = "input"
    class_position: bool = True
    position_resampling: PositionResampling = "scale"
    resample_relative: bool = False
    embedding_norm: bool = False
    time_positions: int = 0
    layer_scale_from_zero: bool = False
    residual_blocks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not divisible by num_heads {self.num_heads}")
        for side in self.image_size:
            if side % self.patch_size:
                raise ValueError(f"image side {side} is not divisible by patch_size {self.patch_size}")
        if self.class_token and self.absolute_positions and not self.class_position:
            raise ValueError("class_position False leaves the class token without one; set class_token False")
        if self.layer_scale > 0 and self.layer_scale_from_zero:
            raise ValueError(f"layer_scale {self.layer_scale} contradicts layer_scale_from_zero")
        self._check_windows()
        for block in self.residual_blocks:
            if not 0 <= block < self.depth:
                raise ValueError(f"residual_blocks has block {block}, but depth is {self.depth}")

    def _check_windows(self) -> None:
        if not self.windows:
            return
        if len(self.windows) != self.depth:
            raise ValueError(f"windows has {len(self.windows)} entries for {self.depth} blocks")
        if min(self.windows) < 0:
            raise ValueError(f"sides of windows are at least 0; got {min(self.windows)}")
        if any(self.windows) and self.class_token:
            raise ValueError("a class token belongs to no window; set class_token False")
        if any(self.windows) and self.relative_positions == "shared":
            raise ValueError('blocks with windows can not share a table; set relative_positions "per_block"')

    @property
    def grid_size(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def has_scales(self) -> bool:
        """Whether branches have a learned factor."""
        return self.layer_scale > 0 or self.layer_scale_from_zero

    def window(self, block: int) -> int:
        """Side of a block's windows in patches; 0 where it sees the whole picture."""
        return self.windows[block] if self.windows else 0

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
