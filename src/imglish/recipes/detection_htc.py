"""ViT-Adapter's official configs of HTC++ on COCO.

All are named as their configs, but for the ``++``, which no name in Python has. ROOT is COCO's folder, with
``annotations``, ``train2017``, ``val2017`` and the class maps of COCO-Stuff in ``stuffthingmaps``.
Copy-paste stands in the place of InstaBoost.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from imglish.losses.two_stage import CASCADE_LOSS, HTC_LOSS
from imglish.models.detectors.config import TwoStageConfig, htc, htc_objects365
from imglish.recipes.config import RunConfig
from imglish.recipes.data_config import CocoInstancesData
from imglish.recipes.detection_config import DetectionTask
from imglish.recipes.detection_official import (
    AFTER_OBJECTS365,
    AUGREG_LARGE,
    BEIT_LARGE,
    BEIT_V2_LARGE,
    HTC_SCALES,
    Backbone,
    beit_backbone,
    by_layer,
    dropped_after,
    in_several_views,
    official,
    uniperceiver_backbone,
    vit_backbone,
)

_WITH_STUFF = CocoInstancesData(root=Path("data/coco"), semantic="stuffthingmaps")
_BOXES_OF_VIEWS = 1000  # of a picture, of several views together


def htc_augreg_adapter_large_fpn_3x_coco() -> RunConfig:
    """COCO, AugReg-L, ViT-Adapter and HTC++, 36 epochs: 56.6 box AP, 49.0 mask AP.

    Alone over AugReg-L its pictures have ImageNet's mean and deviation.

    Run:      imglish train htc_augreg_adapter_large_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step; officially 16 GPUs with one each.
    Source:   its config in htc++ (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return _htc(
        "htc_augreg_adapter_large_fpn_3x_coco",
        vit_backbone("large", AUGREG_LARGE, drop_path=0.4, pretrained_size=384),
        htc(max_boxes=300),
        attention_drop_path=0.4,
    )


def htc_augreg_adapter_large_fpn_3x_coco_ms() -> RunConfig:
    """COCO, AugReg-L, ViT-Adapter and HTC++, scored in several views: 57.7 box AP, 49.9 mask AP.

    The training is that of `htc_augreg_adapter_large_fpn_3x_coco`; ``imglish evaluate`` scores its weights in
    six views, each also flipped.

    Run:      imglish train htc_augreg_adapter_large_fpn_3x_coco_ms --data.root data/coco
    Needs:    16 pictures a step; officially 16 GPUs with one each.
    Source:   its config in htc++ (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return _in_several_views(htc_augreg_adapter_large_fpn_3x_coco())


def htc_beit_adapter_large_fpn_3x_coco() -> RunConfig:
    """COCO, BEiT-L, ViT-Adapter and HTC++, 36 epochs: 58.4 box AP, 50.8 mask AP.

    Run:      imglish train htc_beit_adapter_large_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step; officially 16 GPUs with one each.
    Source:   its config in htc++ (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return _htc(
        "htc_beit_adapter_large_fpn_3x_coco",
        beit_backbone(BEIT_LARGE, drop_path=0.4),
        htc(soft_proposals=True),
    )


def htc_beit_adapter_large_fpn_3x_coco_ms() -> RunConfig:
    """COCO, BEiT-L, ViT-Adapter and HTC++, scored in several views: 60.2 box AP, 52.2 mask AP.

    The training is that of `htc_beit_adapter_large_fpn_3x_coco`; ``imglish evaluate`` scores its weights in
    six views, each also flipped.

    Run:      imglish train htc_beit_adapter_large_fpn_3x_coco_ms --data.root data/coco
    Needs:    16 pictures a step; officially 16 GPUs with one each.
    Source:   its config in htc++ (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return _in_several_views(htc_beit_adapter_large_fpn_3x_coco())


def htc_beit_adapter_large_fpn_3x_coco_old() -> RunConfig:
    """COCO, BEiT-L, the older ViT-Adapter and HTC++, 36 epochs: 57.9 box AP, 50.2 mask AP.

    The map of the ViT after each interaction is added to a level of its own, as in segmentation. Stochastic
    depth is 0.3, and proposals are not suppressed softly.

    Run:      imglish train htc_beit_adapter_large_fpn_3x_coco_old --data.root data/coco
    Needs:    16 pictures a step; officially 16 GPUs with one each.
    Source:   its config in htc++ (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return _htc(
        "htc_beit_adapter_large_fpn_3x_coco_old", beit_backbone(BEIT_LARGE, drop_path=0.3, old=True), htc()
    )


def htc_beitv2_adapter_large_fpn_3x_coco() -> RunConfig:
    """COCO, BEiT v2-L, ViT-Adapter and HTC++, 36 epochs: 58.8 box AP, 51.1 mask AP.

    Run:      imglish train htc_beitv2_adapter_large_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step; officially 16 GPUs with one each.
    Source:   its config in htc++ (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return _htc("htc_beitv2_adapter_large_fpn_3x_coco", beit_backbone(BEIT_V2_LARGE, drop_path=0.4), htc())


def htc_beitv2_adapter_large_fpn_3x_coco_ms() -> RunConfig:
    """COCO, BEiT v2-L, ViT-Adapter and HTC++, scored in several views: 60.5 box AP, 52.5 mask AP.

    The training is that of `htc_beitv2_adapter_large_fpn_3x_coco`; ``imglish evaluate`` scores its weights in
    six views, each also flipped.

    Run:      imglish train htc_beitv2_adapter_large_fpn_3x_coco_ms --data.root data/coco
    Needs:    16 pictures a step; officially 16 GPUs with one each.
    Source:   its config in htc++ (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return _in_several_views(htc_beitv2_adapter_large_fpn_3x_coco())


def htc_beitv2_adapter_large_fpn_o365_coco() -> RunConfig:
    """COCO, BEiT v2-L, ViT-Adapter and HTC++ after Objects365: 61.8 box AP, 53.0 mask AP.

    It starts from the official run on Objects365, whose own config was not released; --init RUN names your
    own.

    Run:      imglish train htc_beitv2_adapter_large_fpn_o365_coco --data.root data/coco
    Needs:    64 pictures a step; officially 32 GPUs with two each.
    Source:   its config in htc++ (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return official(
        "htc_beitv2_adapter_large_fpn_o365_coco",
        beit_backbone(BEIT_V2_LARGE, drop_path=0.3),
        htc_objects365(),
        by_layer(0.8),
        AFTER_OBJECTS365,
        schedule=dropped_after(1e-4),
        num_steps=20_000,
        loss=CASCADE_LOSS,
        init="htc++_beitv2_adapter_large_fpn_o365",
        data=_WITH_STUFF,
        batch_size=64,
        max_grad_norm=0.1,
        ema_decay=0.9999,
    )


def htc_beitv2_adapter_large_fpn_o365_coco_ms() -> RunConfig:
    """COCO, BEiT v2-L, HTC++ after Objects365, in several views: 62.6 box AP, 54.2 mask AP.

    The training is that of `htc_beitv2_adapter_large_fpn_o365_coco`; ``imglish evaluate`` scores its weights
    in six views, each also flipped.

    Run:      imglish train htc_beitv2_adapter_large_fpn_o365_coco_ms --data.root data/coco
    Needs:    64 pictures a step; officially 32 GPUs with two each.
    Source:   its config in htc++ (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return _in_several_views(htc_beitv2_adapter_large_fpn_o365_coco())


def htc_uniperceiver_adapter_large_fpn_3x_coco() -> RunConfig:
    """COCO, Uni-Perceiver-L, ViT-Adapter and HTC++, 36 epochs: no score was published.

    Run:      imglish train htc_uniperceiver_adapter_large_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step; officially 16 GPUs with one each.
    Source:   its config in htc++ (adapter FACTS, sections 6, 8 and 10).
    """
    return _htc(
        "htc_uniperceiver_adapter_large_fpn_3x_coco",
        uniperceiver_backbone("large", drop_path=0.4),
        htc(),
        attention_drop_path=0.4,
    )


def _htc(
    name: str, backbone: Backbone, detector: TwoStageConfig, *, attention_drop_path: float = 0.3
) -> RunConfig:
    """HTC++ by the 3x schedule."""
    neck = replace(detector.neck, attention_drop_path=attention_drop_path)
    return official(
        name,
        backbone,
        replace(detector, neck=neck),
        by_layer(0.9),
        HTC_SCALES,
        loss=HTC_LOSS,
        data=_WITH_STUFF,
    )


def _in_several_views(recipe: RunConfig) -> RunConfig:
    """The same, scored in several views."""
    task = recipe.task
    assert isinstance(task, DetectionTask) and isinstance(task.detector, TwoStageConfig)
    selection = replace(task.detector.selection, max_boxes=_BOXES_OF_VIEWS)
    return replace(
        recipe,
        name=f"{recipe.name}_ms",
        task=replace(
            task,
            detector=replace(task.detector, selection=selection),
            pictures=in_several_views(task.pictures),
        ),
    )
