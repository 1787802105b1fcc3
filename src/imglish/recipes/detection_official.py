"""What the official ViT-Adapter detection configs share, as parts to make recipes of.

Source of all numbers: parity FACTS of the adapter, sections 5 (heads), 6 (optimiser), 8 (pictures) and 10
(configs); what these leave open is from the configs themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from imglish.decoding.detections import HTC_VIEWS
from imglish.losses.two_stage import TwoStageLoss
from imglish.models.vit_adapter import presets
from imglish.models.vit_adapter.backbone_config import (
    BeitBackboneConfig,
    PlainViTConfig,
    UniPerceiverBackboneConfig,
    ViTBackboneConfig,
    vit_settings,
)
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.recipes.config import RunConfig
from imglish.recipes.data_config import CocoInstancesData, CocoPanopticData
from imglish.recipes.detection_config import DetectionPictures, DetectionTask, DetectorConfig
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig

DEIT_TINY, DEIT_SMALL, DEIT_BASE = (f"deit_{size}_patch16_224" for size in ("tiny", "small", "base"))
AUGREG_LARGE = "augreg_large_patch16_384"
BEIT_LARGE = "beit_large_patch16_224_pt22k_ft22k"
BEIT_V2_LARGE = "beitv2_large_patch16_224_pt1k_ft21k"

# The published pipelines; all that are not named here are scored at 1333 x 800.
ONE_SCALE = DetectionPictures()
MANY_SCALES = DetectionPictures(pipeline="many_scales")
LARGE_SCALE_JITTER = DetectionPictures(pipeline="large_scale_jitter")
HTC_SCALES = DetectionPictures(pipeline="htc", scored_scales=((1600, 1400),))
AFTER_OBJECTS365 = DetectionPictures(
    pipeline="htc", paste=False, longer=2000, shorter=(600, 1600), scored_scales=((2000, 1000),)
)
_LONGEST = 3000  # of the views at several scales


@dataclass(frozen=True, kw_only=True, slots=True)
class Backbone:
    """A ViT with its adapter.

    Args:
        vit: The ViT, with windows.
        adapter: Its adapter; None is the plain baseline.
        init: The weights that the ViT starts from.
    """

    vit: PlainViTConfig
    adapter: ViTAdapterConfig | None
    init: str


def vit_backbone(
    size: presets.Size,
    init: str,
    *,
    drop_path: float,
    pretrained_size: int = 224,
    plain: bool = False,
    layer_scale: bool = True,
) -> Backbone:
    """DeiT, AugReg or DINOv2 with windows and ViT-Adapter, or the plain baseline."""
    vit = presets.vit(
        size,
        pretrained_size=pretrained_size,
        windows=presets.window_schedule(size),
        layer_scale=layer_scale,
        drop_path=drop_path,
    )
    adapter = None if plain else presets.vit_adapter(size, "detection", drop_path=drop_path)
    return Backbone(vit=ViTBackboneConfig(**vit_settings(vit)), adapter=adapter, init=init)


def mae_backbone(*, drop_path: float) -> Backbone:
    """MAE-B of the upgraded Mask R-CNN: no layer scale, and no extractors after the last interaction."""
    found = vit_backbone("base", "mae_base_patch16_224", drop_path=drop_path, layer_scale=False)
    assert found.adapter is not None
    return replace(found, adapter=presets.without_extra_extractors(found.adapter))


def beit_backbone(init: str, *, drop_path: float, old: bool = False) -> Backbone:
    """BEiT-L or BEiT v2-L with windows and ViT-Adapter.

    Args:
        init: Which of them.
        drop_path: Of the ViT and the adapter.
        old: True adds the ViT's maps of each interaction to a level of its own, as in segmentation.
    """
    tree: presets.Tree = "segmentation" if old else "detection"
    return Backbone(
        vit=BeitBackboneConfig(**vit_settings(presets.beit("large", "detection", drop_path=drop_path))),
        adapter=presets.beit_adapter("large", tree, drop_path=drop_path),
        init=init,
    )


def uniperceiver_backbone(size: presets.Size, *, drop_path: float) -> Backbone:
    """Uni-Perceiver with windows and ViT-Adapter."""
    vit = presets.uniperceiver(size, windows=presets.window_schedule(size), drop_path=drop_path)
    return Backbone(
        vit=UniPerceiverBackboneConfig(**vit_settings(vit)),
        adapter=presets.uniperceiver_adapter(size, "detection", drop_path=drop_path),
        init=f"uniperceiver_{size}_patch16_224",
    )


def in_several_views(pictures: DetectionPictures) -> DetectionPictures:
    """The same, scored at six scales, each flipped as well, of which each gives boxes of some areas."""
    return replace(
        pictures,
        scored_scales=tuple((_LONGEST, shorter) for shorter in HTC_VIEWS),
        scored_flip=True,
        scored_areas=tuple(HTC_VIEWS.values()),
    )


def by_name(lr: float = 1e-4, weight_decay: float = 0.05) -> OptimizerConfig:
    """AdamW of the configs without layer decay: names say what decays."""
    return replace(by_layer(1.0), lr=lr, weight_decay=weight_decay, decay_by="name")


def by_layer(layer_decay: float) -> OptimizerConfig:
    """AdamW of the configs with layer decay."""
    return OptimizerConfig(lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05, layer_decay=layer_decay)


def dropped_after(peak: float, *shares: float, warmup: int = 500) -> ScheduleConfig:
    """A tenth of the rate after each share of the run, and a warmup from a thousandth of it."""
    if not shares:  # a line that does not fall
        return ScheduleConfig(kind="linear", warmup_steps=warmup, warmup_lr=1e-3 * peak, final_lr=peak)
    return ScheduleConfig(kind="step", warmup_steps=warmup, warmup_lr=1e-3 * peak, drops=shares)


def one_times(peak: float) -> ScheduleConfig:
    """The 1x schedule: 12 epochs with drops after 8 and 11."""
    return dropped_after(peak, 8 / 12, 11 / 12)


def three_times(peak: float) -> ScheduleConfig:
    """The 3x schedule: 36 epochs with drops after 27 and 33."""
    return dropped_after(peak, 27 / 36, 33 / 36)


def official(
    name: str,
    backbone: Backbone,
    detector: DetectorConfig,
    optimizer: OptimizerConfig,
    pictures: DetectionPictures,
    *,
    schedule: ScheduleConfig | None = None,
    num_epochs: float = 36,
    num_steps: int = 0,
    loss: TwoStageLoss | None = None,
    init: str = "",
    data: CocoInstancesData | CocoPanopticData | None = None,
    batch_size: int = 16,
    max_grad_norm: float = 0.0,
    ema_decay: float = 0.0,
) -> RunConfig:
    """A recipe.

    Args:
        name: Of the recipe.
        backbone: ViT and adapter.
        detector: Neck and heads.
        optimizer: Rates and decays; see `by_name` and `by_layer`.
        pictures: How they are prepared.
        schedule: Of the rate; None is the 3x schedule.
        num_epochs: Length in passes over the training data.
        num_steps: Length in updates; where it is not 0 it decides.
        loss: Of a two-stage detector; None is Mask R-CNN's.
        init: A run or official detector to start from; empty means the ViT's own weights.
        data: None is COCO's instances.
        batch_size: Over all ranks.
        max_grad_norm: Gradients are scaled down to it; 0 leaves them.
        ema_decay: Of averaged weights; 0 keeps none.
    """
    adapter = backbone.adapter
    return RunConfig(
        name=name,
        task=DetectionTask(
            model=backbone.vit,
            backbone="plain_vit" if adapter is None else "vit_adapter",
            adapter=adapter or ViTAdapterConfig(),
            detector=detector,
            pictures=pictures,
            panoptic=isinstance(data, CocoPanopticData),
            two_stage_loss=loss or TwoStageLoss(),
            batch_size=batch_size,
        ),
        data=data or CocoInstancesData(root=Path("data/coco")),
        init=init or backbone.init,
        optimizer=optimizer,
        schedule=schedule or three_times(optimizer.lr),
        train=TrainConfig(
            num_steps=num_steps or 1,
            num_epochs=0.0 if num_steps else num_epochs,
            max_grad_norm=max_grad_norm,
            ema_decay=ema_decay,
            num_workers=8,
            save_every=5000,
            seed=42,
        ),
    )
