"""ViT-Adapter's official configs of Cascade Mask R-CNN on COCO; all are named as their configs."""

from __future__ import annotations

from imglish.losses.two_stage import CASCADE_LOSS
from imglish.models.detectors.config import cascade_mask_rcnn
from imglish.recipes.config import RunConfig
from imglish.recipes.detection_official import (
    DEIT_BASE,
    DEIT_SMALL,
    MANY_SCALES,
    by_name,
    official,
    vit_backbone,
)


def cascade_mask_rcnn_deit_adapter_small_fpn_3x_coco() -> RunConfig:
    """COCO, DeiT-S, ViT-Adapter and Cascade Mask R-CNN, 36 epochs: 51.5 box AP, 44.3 mask AP.

    Run:      imglish train cascade_mask_rcnn_deit_adapter_small_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in cascade_rcnn (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return official(
        "cascade_mask_rcnn_deit_adapter_small_fpn_3x_coco",
        vit_backbone("small", DEIT_SMALL, drop_path=0.2),
        cascade_mask_rcnn(),
        by_name(),
        MANY_SCALES,
        loss=CASCADE_LOSS,
    )


def cascade_mask_rcnn_deit_adapter_base_fpn_3x_coco() -> RunConfig:
    """COCO, DeiT-B, ViT-Adapter and Cascade Mask R-CNN, 36 epochs: 52.1 box AP, 44.8 mask AP.

    Run:      imglish train cascade_mask_rcnn_deit_adapter_base_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in cascade_rcnn (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return official(
        "cascade_mask_rcnn_deit_adapter_base_fpn_3x_coco",
        vit_backbone("base", DEIT_BASE, drop_path=0.3),
        cascade_mask_rcnn(),
        by_name(),
        MANY_SCALES,
        loss=CASCADE_LOSS,
    )


def cascade_mask_rcnn_deit_base_fpn_3x_coco() -> RunConfig:
    """COCO, plain DeiT-B and Cascade Mask R-CNN, 36 epochs: no score was published.

    Run:      imglish train cascade_mask_rcnn_deit_base_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step: its config has one on a GPU, and leaves the GPUs to the command line.
    Source:   its config in cascade_rcnn (adapter FACTS, sections 6, 8 and 10).
    """
    return official(
        "cascade_mask_rcnn_deit_base_fpn_3x_coco",
        vit_backbone("base", DEIT_BASE, drop_path=0.2, plain=True),
        cascade_mask_rcnn(),
        by_name(),
        MANY_SCALES,
        loss=CASCADE_LOSS,
    )
