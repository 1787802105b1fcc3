"""ViT-Adapter's official configs of Mask R-CNN on COCO.

All are named as their configs; ROOT is COCO's folder, with ``annotations``, ``train2017`` and ``val2017``.
"""

from __future__ import annotations

from dataclasses import replace

from imglish.models.detectors.config import NeckConfig, mask_rcnn, mask_rcnn_upgraded
from imglish.recipes.config import RunConfig
from imglish.recipes.detection_official import (
    AUGREG_LARGE,
    DEIT_BASE,
    DEIT_SMALL,
    DEIT_TINY,
    LARGE_SCALE_JITTER,
    MANY_SCALES,
    ONE_SCALE,
    by_layer,
    by_name,
    mae_backbone,
    official,
    one_times,
    uniperceiver_backbone,
    vit_backbone,
)
from imglish.train.config import ScheduleConfig

_COSINE = ScheduleConfig(warmup_steps=2000, warmup_lr=1e-7, final_lr=1e-6)


def mask_rcnn_deit_adapter_tiny_fpn_1x_coco() -> RunConfig:
    """COCO, DeiT-T, ViT-Adapter and Mask R-CNN, 12 epochs: 41.1 box AP, 37.5 mask AP.

    It alone has no learned factors on the branches (its config's ``layer_scale``).

    Run:      imglish train mask_rcnn_deit_adapter_tiny_fpn_1x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in mask_rcnn (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return official(
        "mask_rcnn_deit_adapter_tiny_fpn_1x_coco",
        vit_backbone("tiny", DEIT_TINY, drop_path=0.1, layer_scale=False),
        mask_rcnn(),
        by_name(2e-4, 0.01),
        ONE_SCALE,
        schedule=one_times(2e-4),
        num_epochs=12,
    )


def mask_rcnn_deit_adapter_small_fpn_1x_coco() -> RunConfig:
    """COCO, DeiT-S, ViT-Adapter and Mask R-CNN, 12 epochs: 44.7 box AP, 39.9 mask AP.

    Run:      imglish train mask_rcnn_deit_adapter_small_fpn_1x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in mask_rcnn (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return official(
        "mask_rcnn_deit_adapter_small_fpn_1x_coco",
        vit_backbone("small", DEIT_SMALL, drop_path=0.2),
        mask_rcnn(),
        by_name(),
        ONE_SCALE,
        schedule=one_times(1e-4),
        num_epochs=12,
    )


def mask_rcnn_deit_adapter_base_fpn_1x_coco() -> RunConfig:
    """COCO, DeiT-B, ViT-Adapter and Mask R-CNN, 12 epochs: 47.0 box AP, 41.8 mask AP.

    Run:      imglish train mask_rcnn_deit_adapter_base_fpn_1x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in mask_rcnn (adapter FACTS, sections 6, 8 and 10); the scores from the paper.
    """
    return official(
        "mask_rcnn_deit_adapter_base_fpn_1x_coco",
        vit_backbone("base", DEIT_BASE, drop_path=0.3),
        mask_rcnn(),
        by_name(),
        ONE_SCALE,
        schedule=one_times(1e-4),
        num_epochs=12,
    )


def mask_rcnn_augreg_adapter_large_fpn_1x_coco() -> RunConfig:
    """COCO, AugReg-L, ViT-Adapter and Mask R-CNN, 12 epochs: 48.7 box AP, 43.3 mask AP.

    Its pictures are in [-1, 1].

    Run:      imglish train mask_rcnn_augreg_adapter_large_fpn_1x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in mask_rcnn (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return official(
        "mask_rcnn_augreg_adapter_large_fpn_1x_coco",
        vit_backbone("large", AUGREG_LARGE, drop_path=0.4, pretrained_size=384),
        mask_rcnn(),
        by_layer(0.8),
        replace(ONE_SCALE, range="model"),
        schedule=one_times(1e-4),
        num_epochs=12,
    )


def mask_rcnn_deit_adapter_tiny_fpn_3x_coco() -> RunConfig:
    """COCO, DeiT-T, ViT-Adapter and Mask R-CNN, 36 epochs: 46.0 box AP, 41.0 mask AP.

    Run:      imglish train mask_rcnn_deit_adapter_tiny_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in mask_rcnn (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return official(
        "mask_rcnn_deit_adapter_tiny_fpn_3x_coco",
        vit_backbone("tiny", DEIT_TINY, drop_path=0.1),
        mask_rcnn(),
        by_name(),
        MANY_SCALES,
    )


def mask_rcnn_deit_adapter_small_fpn_3x_coco() -> RunConfig:
    """COCO, DeiT-S, ViT-Adapter and Mask R-CNN, 36 epochs: 48.2 box AP, 42.8 mask AP.

    Run:      imglish train mask_rcnn_deit_adapter_small_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in mask_rcnn (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return official(
        "mask_rcnn_deit_adapter_small_fpn_3x_coco",
        vit_backbone("small", DEIT_SMALL, drop_path=0.2),
        mask_rcnn(),
        by_name(),
        MANY_SCALES,
    )


def mask_rcnn_deit_adapter_base_fpn_3x_coco() -> RunConfig:
    """COCO, DeiT-B, ViT-Adapter and Mask R-CNN, 36 epochs: 49.6 box AP, 43.6 mask AP.

    Run:      imglish train mask_rcnn_deit_adapter_base_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in mask_rcnn (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return official(
        "mask_rcnn_deit_adapter_base_fpn_3x_coco",
        vit_backbone("base", DEIT_BASE, drop_path=0.3),
        mask_rcnn(),
        by_name(),
        MANY_SCALES,
    )


def mask_rcnn_uniperceiver_adapter_base_fpn_3x_coco() -> RunConfig:
    """COCO, Uni-Perceiver-B, ViT-Adapter and Mask R-CNN, 36 epochs: 51.2 box AP, 45.3 mask AP.

    Run:      imglish train mask_rcnn_uniperceiver_adapter_base_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in mask_rcnn (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return official(
        "mask_rcnn_uniperceiver_adapter_base_fpn_3x_coco",
        uniperceiver_backbone("base", drop_path=0.2),
        mask_rcnn(),
        by_layer(0.65),
        MANY_SCALES,
    )


def mask_rcnn_augreg_adapter_large_fpn_3x_coco() -> RunConfig:
    """COCO, AugReg-L, ViT-Adapter and Mask R-CNN, 36 epochs: 52.1 box AP, 46.0 mask AP.

    Its pictures are in [-1, 1].

    Run:      imglish train mask_rcnn_augreg_adapter_large_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in mask_rcnn (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return official(
        "mask_rcnn_augreg_adapter_large_fpn_3x_coco",
        vit_backbone("large", AUGREG_LARGE, drop_path=0.4, pretrained_size=384),
        mask_rcnn(),
        by_layer(0.8),
        replace(MANY_SCALES, range="model"),
    )


def mask_rcnn_dinov2_adapter_small_fpn_3x_coco() -> RunConfig:
    """COCO, DINOv2-S, ViT-Adapter and Mask R-CNN, 36 epochs: 51.5 box AP, 45.6 mask AP.

    Patches of 14 pixels become 16, positions those of 592 pixels.

    Run:      imglish train mask_rcnn_dinov2_adapter_small_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in mask_rcnn/dinov2 (adapter FACTS, sections 6, 8 and 10); the scores from its
              documents.
    """
    return official(
        "mask_rcnn_dinov2_adapter_small_fpn_3x_coco",
        vit_backbone("small", "dinov2_small_patch14_518", drop_path=0.2, pretrained_size=592),
        mask_rcnn(),
        by_layer(0.7),
        MANY_SCALES,
    )


def mask_rcnn_dinov2_adapter_base_fpn_3x_coco() -> RunConfig:
    """COCO, DINOv2-B, ViT-Adapter and Mask R-CNN, 36 epochs: 54.1 box AP, 47.8 mask AP.

    Patches of 14 pixels become 16, positions those of 592 pixels.

    Run:      imglish train mask_rcnn_dinov2_adapter_base_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in mask_rcnn/dinov2 (adapter FACTS, sections 6, 8 and 10); the scores from its
              documents.
    """
    return official(
        "mask_rcnn_dinov2_adapter_base_fpn_3x_coco",
        vit_backbone("base", "dinov2_base_patch14_518", drop_path=0.3, pretrained_size=592),
        mask_rcnn(),
        by_layer(0.6),
        MANY_SCALES,
    )


def mask_rcnn_dinov2_adapter_large_fpn_3x_coco() -> RunConfig:
    """COCO, DINOv2-L, ViT-Adapter and Mask R-CNN, 36 epochs: 55.3 box AP, 49.0 mask AP.

    Patches of 14 pixels become 16, positions those of 592 pixels. Its pictures are in [-1, 1].

    Run:      imglish train mask_rcnn_dinov2_adapter_large_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in mask_rcnn/dinov2 (adapter FACTS, sections 6, 8 and 10); the scores from its
              documents.
    """
    return official(
        "mask_rcnn_dinov2_adapter_large_fpn_3x_coco",
        vit_backbone("large", "dinov2_large_patch14_518", drop_path=0.4, pretrained_size=592),
        mask_rcnn(),
        by_layer(0.65),
        replace(MANY_SCALES, range="model"),
    )


def mask_rcnn_deit_adapter_small_3x_coco() -> RunConfig:
    """COCO, DeiT-S, ViT-Adapter and Mask R-CNN without a pyramid, 36 epochs: 48.2 box AP, 42.7 mask AP.

    A convolution for each level takes the place of the top-down pyramid.

    Run:      imglish train mask_rcnn_deit_adapter_small_3x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in mask_rcnn/no_fpn (adapter FACTS, sections 6, 8 and 10); the scores from its
              documents.
    """
    return official(
        "mask_rcnn_deit_adapter_small_3x_coco",
        vit_backbone("small", DEIT_SMALL, drop_path=0.2),
        replace(mask_rcnn(), neck=NeckConfig(kind="mapper")),
        by_name(),
        MANY_SCALES,
    )


def mask_rcnn_deit_tiny_fpn_3x_coco() -> RunConfig:
    """COCO, plain DeiT-T and Mask R-CNN, 36 epochs: 40.2 box AP, 37.0 mask AP.

    Run:      imglish train mask_rcnn_deit_tiny_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in mask_rcnn (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return official(
        "mask_rcnn_deit_tiny_fpn_3x_coco",
        vit_backbone("tiny", DEIT_TINY, drop_path=0.1, plain=True),
        mask_rcnn(),
        by_name(),
        MANY_SCALES,
    )


def mask_rcnn_deit_small_fpn_3x_coco() -> RunConfig:
    """COCO, plain DeiT-S and Mask R-CNN, 36 epochs: 44.0 box AP, 39.9 mask AP.

    Run:      imglish train mask_rcnn_deit_small_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in mask_rcnn (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return official(
        "mask_rcnn_deit_small_fpn_3x_coco",
        vit_backbone("small", DEIT_SMALL, drop_path=0.1, plain=True),
        mask_rcnn(),
        by_name(),
        MANY_SCALES,
    )


def mask_rcnn_deit_base_fpn_3x_coco() -> RunConfig:
    """COCO, plain DeiT-B and Mask R-CNN, 36 epochs: 45.8 box AP, 41.3 mask AP.

    Run:      imglish train mask_rcnn_deit_base_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in mask_rcnn (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return official(
        "mask_rcnn_deit_base_fpn_3x_coco",
        vit_backbone("base", DEIT_BASE, drop_path=0.1, plain=True),
        mask_rcnn(),
        by_name(),
        MANY_SCALES,
    )


def mask_rcnn_augreg_large_fpn_3x_coco() -> RunConfig:
    """COCO, plain AugReg-L and Mask R-CNN, 36 epochs: 48.3 box AP, 43.3 mask AP.

    Its pictures are in [-1, 1].

    Run:      imglish train mask_rcnn_augreg_large_fpn_3x_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in mask_rcnn (adapter FACTS, sections 6, 8 and 10); the scores from its documents.
    """
    return official(
        "mask_rcnn_augreg_large_fpn_3x_coco",
        vit_backbone("large", AUGREG_LARGE, drop_path=0.4, pretrained_size=384, plain=True),
        mask_rcnn(),
        by_layer(0.8),
        replace(MANY_SCALES, range="model"),
    )


def mask_rcnn_mae_adapter_base_lsj_fpn_25ep_coco() -> RunConfig:
    """COCO, MAE-B, ViT-Adapter and upgraded Mask R-CNN, 25 epochs: 50.3 box AP, 44.7 mask AP.

    Batch norms in pyramid and heads, more convolutions, and large-scale jitter to 1024 x 1024. The official
    rate falls once an epoch; here it falls at each step, from the end of the warmup on.

    Run:      imglish train mask_rcnn_mae_adapter_base_lsj_fpn_25ep_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in upgraded_mask_rcnn (adapter FACTS, sections 6, 8 and 10); the scores from its
              documents.
    """
    return official(
        "mask_rcnn_mae_adapter_base_lsj_fpn_25ep_coco",
        mae_backbone(drop_path=0.1),
        mask_rcnn_upgraded(),
        by_name(),
        LARGE_SCALE_JITTER,
        schedule=_COSINE,
        num_epochs=25,
    )


def mask_rcnn_mae_adapter_base_lsj_fpn_50ep_coco() -> RunConfig:
    """COCO, MAE-B, ViT-Adapter and upgraded Mask R-CNN, 50 epochs: 50.8 box AP, 45.1 mask AP.

    Batch norms in pyramid and heads, more convolutions, and large-scale jitter to 1024 x 1024. The official
    rate falls once an epoch; here it falls at each step, from the end of the warmup on.

    Run:      imglish train mask_rcnn_mae_adapter_base_lsj_fpn_50ep_coco --data.root data/coco
    Needs:    16 pictures a step: 8 GPUs with two each, which the config leaves to the command line.
    Source:   its config in upgraded_mask_rcnn (adapter FACTS, sections 6, 8 and 10); the scores from its
              documents.
    """
    return official(
        "mask_rcnn_mae_adapter_base_lsj_fpn_50ep_coco",
        mae_backbone(drop_path=0.2),
        mask_rcnn_upgraded(),
        by_name(),
        LARGE_SCALE_JITTER,
        schedule=_COSINE,
        num_epochs=50,
    )
