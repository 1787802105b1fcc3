"""The official backbones and adapters as settings (parity FACTS of the adapter, sections 1 to 4 and 10).

The two official trees, segmentation and detection, are not the same model: BEiT keeps its class token in the
one and has windows in the other, and the adapter adds the ViT's maps to its levels differently.
Rates of stochastic depth differ from config to config, so they are an argument.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

from imglish.models.vit.config import ViTConfig
from imglish.models.vit_adapter.config import ViTAdapterConfig

Size = Literal["tiny", "small", "base", "large"]
Tree = Literal["segmentation", "detection"]

UNIPERCEIVER_EPS = 1e-5


class _Sizes(NamedTuple):
    width: int
    depth: int
    num_heads: int
    adapter_heads: int
    value_ratio: float


_SIZES: dict[Size, _Sizes] = {
    "tiny": _Sizes(192, 12, 3, 6, 1.0),
    "small": _Sizes(384, 12, 6, 6, 1.0),
    "base": _Sizes(768, 12, 12, 12, 0.5),
    "large": _Sizes(1024, 24, 16, 16, 0.5),
}


def vit_adapter(size: Size, tree: Tree, *, drop_path: float = 0.0) -> ViTAdapterConfig:
    """The adapter beside a ViT (DeiT, AugReg, MAE, DINOv2): T, S, B, L of the paper.

    Args:
        size: Which row of the paper's table of variants.
        tree: Whose settings.
        drop_path: Stochastic depth of the extractor's feed-forward network.
    """
    sizes = _SIZES[size]
    return ViTAdapterConfig(
        num_heads=sizes.adapter_heads,
        value_ratio=sizes.value_ratio,
        vit_features="per_interaction" if tree == "segmentation" else "last",
        drop_path=drop_path,
    )


def light_adapter(size: Size, *, drop_path: float = 0.0) -> ViTAdapterConfig:
    """The light variant: one interaction, no feed-forward network, no extra extractors, no ViT maps added."""
    return replace(
        vit_adapter(size, "detection", drop_path=drop_path),
        num_interactions=1,
        feed_forward_ratio=0.0,
        num_extra_extractors=0,
        vit_features="none",
    )


def without_extra_extractors(adapter: ViTAdapterConfig) -> ViTAdapterConfig:
    """Without the extractors after the last interaction: beside MAE in the upgraded Mask R-CNN configs."""
    return replace(adapter, num_extra_extractors=0)


def beit_adapter(size: Size, tree: Tree, *, drop_path: float = 0.0) -> ViTAdapterConfig:
    """The adapter beside a BEiT; the configs start its injectors' factor at BEiT's layer scale."""
    return replace(vit_adapter(size, tree, drop_path=drop_path), injector_scale=1e-6)


def uniperceiver_adapter(size: Size, tree: Tree, *, drop_path: float = 0.0) -> ViTAdapterConfig:
    """The adapter beside a Uni-Perceiver."""
    return replace(vit_adapter(size, tree, drop_path=drop_path), norm_eps=UNIPERCEIVER_EPS)


def window_schedule(size: Size, *, side: int = 14, last: int = 0) -> tuple[int, ...]:
    """Windows of the detectors: in each quarter of the blocks all but the last block have them.

    Args:
        size: Of the ViT.
        side: Of the windows, in patches.
        last: Of the last block's; 0 sees the whole picture, the detectors' BEiT has 56.
    """
    quarter = _SIZES[size].depth // 4
    return (*[side] * (quarter - 1), last) * 4


def vit(
    size: Size,
    *,
    pretrained_size: int = 224,
    windows: tuple[int, ...] = (),
    layer_scale: bool = True,
    drop_path: float = 0.0,
) -> ViTConfig:
    """The official ViT (DeiT, AugReg, MAE, DINOv2).

    Args:
        size: Of the model.
        pretrained_size: Side of the pictures that its positions are made for: 224, 384 of AugReg's base and
            large, 592 of DINOv2 with patches of 16.
        windows: `window_schedule` in the detection tree.
        layer_scale: False leaves out the learned factors of one, which all official configs but those of MAE
            have.
        drop_path: Stochastic depth of the last block.
    """
    sizes = _SIZES[size]
    return ViTConfig(
        image_size=(pretrained_size, pretrained_size),
        width=sizes.width,
        depth=sizes.depth,
        num_heads=sizes.num_heads,
        class_token=False,
        attention_bias="all",
        layer_scale=1.0 if layer_scale else 0.0,
        output_norm=False,
        rescale_outputs=False,
        position_resampling="size",
        windows=windows,
        window_padding="projected",
        drop_path=drop_path,
    )


def beit(size: Size, tree: Tree, *, image_size: int = 224, drop_path: float = 0.0) -> ViTConfig:
    """The official BEiT and BEiT v2 under an adapter.

    Args:
        size: Of the model.
        tree: Segmentation keeps the class token, and attention sees the whole crop; detection drops it, and
            has windows of 14, in the last block of each quarter of 56.
        image_size: Side of the crop, which segmentation's tables of relative positions are made for; other
            pictures have them resampled.
        drop_path: Stochastic depth of the last block.
    """
    sizes = _SIZES[size]
    segmentation = tree == "segmentation"
    return ViTConfig(
        image_size=(image_size, image_size),
        width=sizes.width,
        depth=sizes.depth,
        num_heads=sizes.num_heads,
        absolute_positions=False,
        relative_positions="per_block",
        resample_relative=True,
        layer_scale=1e-6,
        class_token=segmentation,
        output_norm=False,
        windows=() if segmentation else window_schedule(size, last=56),
        drop_path=drop_path,
    )


def uniperceiver(size: Size, *, windows: tuple[int, ...] = (), drop_path: float = 0.0) -> ViTConfig:
    """The official Uni-Perceiver under an adapter.

    Args:
        size: Of the model: base or large.
        windows: `window_schedule` in the detection tree.
        drop_path: Stochastic depth of the last block.
    """
    return replace(
        vit(size, windows=windows, layer_scale=False, drop_path=drop_path),
        window_padding="input",
        class_position=False,
        norm_eps=UNIPERCEIVER_EPS,
        embedding_norm=True,
        time_positions=8,
        layer_scale_from_zero=True,
    )
