"""What the official ViT-Adapter segmentation configs share, as parts to make recipes of.

Source of all numbers: parity FACTS of the adapter, sections 6 (optimiser), 8 (pictures) and 10 (configs).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imglish.data.formats.segmentation_sets import SegmentationSet
from imglish.models.segmenters.config import Mask2FormerConfig, SegmenterConfig, UPerNetConfig
from imglish.models.vit_adapter import presets
from imglish.models.vit_adapter.backbone_config import (
    BeitBackboneConfig,
    PlainViTConfig,
    UniPerceiverBackboneConfig,
    ViTBackboneConfig,
    vit_settings,
)
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.recipes.config import RunConfig, SegmentationTask
from imglish.recipes.data_config import SegmentationSetData
from imglish.recipes.segmentation_config import CroppedPictures, SeveralViews
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig

BEIT_BASE = "beit_base_patch16_224_pt22k_ft22k"
BEIT_LARGE = "beit_large_patch16_224_pt22k_ft22k"
BEIT_V2_LARGE = "beitv2_large_patch16_224_pt1k_ft21k"

_ROOTS: dict[SegmentationSet, str] = {
    "ade20k": "data/ADEChallengeData2016",
    "cityscapes": "data/cityscapes",
    "mapillary": "data/mapillary",
    "coco_stuff10k": "data/coco_stuff10k",
    "coco_stuff164k": "data/coco_stuff164k",
    "pascal_context": "data/VOC2010",
    "potsdam": "data/potsdam",
    "chase_db1": "data/chase_db1",
}
AS_MOST = SeveralViews()
# What the single-scale configs of DeiT, AugReg and Uni-Perceiver have as a comment, flipped; no config of
# theirs that scores so was released.
AS_COMMENTED = SeveralViews(fit="multiple_of_32")
AT_896 = SeveralViews(ratios=(640 / 896, 768 / 896, 1.0), fit="multiple_of_32", padding="black")
AT_896_BEIT_V2 = SeveralViews(
    ratios=(800 / 896, 832 / 896, 864 / 896, 1.0), fit="multiple_of_32", padding="mean"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Backbone:
    """A ViT with its adapter.

    Args:
        vit: The ViT.
        adapter: Its adapter; None is the plain baseline.
        init: The weights that the ViT starts from.
    """

    vit: PlainViTConfig
    adapter: ViTAdapterConfig | None
    init: str


def vit_backbone(
    size: presets.Size, init: str, *, drop_path: float, pretrained_size: int = 224, light: bool = False
) -> Backbone:
    """DeiT or AugReg with ViT-Adapter."""
    vit = presets.vit(size, pretrained_size=pretrained_size, drop_path=drop_path)
    adapter = presets.vit_adapter(size, "segmentation", drop_path=drop_path)
    if light:
        adapter = presets.light_adapter(size, drop_path=drop_path)
    return Backbone(vit=ViTBackboneConfig(**vit_settings(vit)), adapter=adapter, init=init)


def beit_backbone(init: str, crop: int, *, drop_path: float = 0.3, plain: bool = False) -> Backbone:
    """BEiT or BEiT v2 with ViT-Adapter, or plain; its tables of relative positions are those of the crop."""
    size: presets.Size = "base" if init == BEIT_BASE else "large"
    vit = presets.beit(size, "segmentation", image_size=crop, drop_path=drop_path)
    adapter = presets.beit_adapter(size, "segmentation", drop_path=drop_path)
    return Backbone(
        vit=BeitBackboneConfig(**vit_settings(vit)), adapter=None if plain else adapter, init=init
    )


def uniperceiver_backbone(*, drop_path: float) -> Backbone:
    """Uni-Perceiver-L with ViT-Adapter."""
    vit = presets.uniperceiver("large", drop_path=drop_path)
    return Backbone(
        vit=UniPerceiverBackboneConfig(**vit_settings(vit)),
        adapter=presets.uniperceiver_adapter("large", "segmentation", drop_path=drop_path),
        init="uniperceiver_large_patch16_224",
    )


def mask2former(num_queries: int = 100, *, width: int = 1024) -> Mask2FormerConfig:
    """Mask2Former of width 1024, beside a BEiT-L, or of 256."""
    if width == 256:
        return Mask2FormerConfig(num_queries=num_queries)
    return Mask2FormerConfig(
        width=width,
        num_queries=num_queries,
        num_heads=32,
        pixel_feed_forward_width=4096,
        feed_forward_width=4096,
    )


def official(
    name: str,
    backbone: Backbone,
    segmenter: SegmenterConfig,
    optimizer: OptimizerConfig,
    pictures: CroppedPictures,
    data: SegmentationSet,
    *,
    num_steps: int,
    init: str = "",
    batch_size: int = 16,
    out_blocks: tuple[int, ...] = (),
) -> RunConfig:
    """A recipe.

    Args:
        name: Of the recipe.
        backbone: ViT and adapter.
        segmenter: Neck and head.
        optimizer: Rates and decays; see `adamw`.
        pictures: How they are prepared; see `crops`.
        data: Which set.
        num_steps: Updates; the schedule is the same in all configs.
        init: A run or official segmenter to start from; empty means the ViT's own weights.
        batch_size: Over all ranks: 8 GPUs with two pictures each, or 16 with one.
        out_blocks: The plain baseline's blocks.
    """
    adapter = backbone.adapter
    return RunConfig(
        name=name,
        task=SegmentationTask(
            model=backbone.vit,
            backbone="plain_vit" if adapter is None else "vit_adapter",
            adapter=adapter or ViTAdapterConfig(),
            out_blocks=out_blocks,
            segmenter=segmenter,
            pictures=pictures,
            batch_size=batch_size,
        ),
        data=SegmentationSetData(name=data, root=Path(_ROOTS[data])),
        init=init or backbone.init,
        optimizer=optimizer,
        schedule=poly(optimizer.lr),
        train=TrainConfig(num_steps=num_steps, max_grad_norm=0.0, num_workers=8, save_every=4000, seed=42),
    )


def adamw(lr: float, weight_decay: float, layer_decay: float) -> OptimizerConfig:
    """AdamW as in all configs."""
    return OptimizerConfig(
        lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay, layer_decay=layer_decay
    )


def beit_adamw() -> OptimizerConfig:
    """AdamW of every config with a BEiT-L."""
    return adamw(2e-5, 0.05, 0.9)


def crops(
    side: int,
    stride: int,
    scale: tuple[int, int],
    *,
    scored_scale: tuple[int, int] | None = None,
    several: SeveralViews = AS_MOST,
) -> CroppedPictures:
    """Square crops in ImageNet's range, scored as they are trained where ``scored_scale`` does not differ."""
    return CroppedPictures(
        crop=(side, side),
        stride=(stride, stride),
        scale=scale,
        scored_scale=scored_scale or scale,
        several=several,
    )


def crops_of_512(several: SeveralViews = AS_MOST) -> CroppedPictures:
    """Those of ADE20K and COCO-Stuff 10k at 512 pixels."""
    return crops(512, 341, (2048, 512), several=several)


def crops_of_896(several: SeveralViews = AT_896) -> CroppedPictures:
    """Those of ADE20K and COCO-Stuff 164k at 896 pixels."""
    return crops(896, 512, (3584, 896), several=several)


def upernet(*, width: int = 512) -> UPerNetConfig:
    """UPerNet of width 512, beside a ViT, or of 1024, beside a BEiT."""
    return UPerNetConfig(head_width=width)


def poly(peak: float) -> ScheduleConfig:
    """The schedule of all official segmentation configs (adapter FACTS, section 6)."""
    return ScheduleConfig(kind="poly", warmup_steps=1500, warmup_lr=1e-6 * peak, final_lr=0.0)
