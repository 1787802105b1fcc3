"""ViT-Adapter's official configs of ATSS and GFL on COCO; both are named as their configs."""

from __future__ import annotations

from imglish.models.detectors.one_stage_config import OneStageConfig
from imglish.recipes.config import RunConfig
from imglish.recipes.detection_official import DEIT_SMALL, MANY_SCALES, by_name, official, vit_backbone


def atss_deit_adapter_small_fpn_3x_coco() -> RunConfig:
    """COCO, DeiT-S, ViT-Adapter and ATSS, 36 epochs: 49.6 box AP.

    Run:      imglish train atss_deit_adapter_small_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in atss (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return official(
        "atss_deit_adapter_small_fpn_3x_coco",
        vit_backbone("small", DEIT_SMALL, drop_path=0.2),
        OneStageConfig(kind="atss"),
        by_name(),
        MANY_SCALES,
    )


def gfl_deit_adapter_small_fpn_3x_coco() -> RunConfig:
    """COCO, DeiT-S, ViT-Adapter and GFL, 36 epochs: 50.0 box AP.

    Run:      imglish train gfl_deit_adapter_small_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in gfl (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return official(
        "gfl_deit_adapter_small_fpn_3x_coco",
        vit_backbone("small", DEIT_SMALL, drop_path=0.2),
        OneStageConfig(kind="gfl"),
        by_name(),
        MANY_SCALES,
    )
