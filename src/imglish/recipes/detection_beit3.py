"""The paper's detection with BEiT-3: the giant on Objects365, and from there on COCO.

Nothing of it was released. The vision side has windows as in ViTDet (arXiv 2203.16527): all blocks but the
last of each quarter; of its last map a simple feature pyramid makes the levels of Cascade Mask R-CNN.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from imglish.losses.two_stage import CASCADE_LOSS
from imglish.models.beit3.config import beit3_giant
from imglish.models.detectors.config import NeckConfig, TwoStageConfig, cascade_mask_rcnn
from imglish.models.vit_adapter.backbone import quarter_windows
from imglish.ops.box_selection import BoxSelection
from imglish.ops.nms import NmsSettings
from imglish.recipes.config import RunConfig
from imglish.recipes.data_config import CocoInstancesData
from imglish.recipes.detection_config import DetectionPictures, DetectionTask
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig

_PATCH = 16
_DROPS = (8 / 9, 26 / 27)


def objects365_detection_giant() -> RunConfig:
    """Objects365, the paper's giant and Cascade R-CNN: the stage before COCO; no score was published.

    The paper tells rates, epochs, size of pictures, stochastic depth and what stands on the model. What it
    leaves open is ours: patches of 16 pixels, as a pyramid of strides 4 to 32 wants, where the giant has
    14; windows of 14 patches; large-scale jitter and drops of the rate to a tenth after 8/9 and 26/27 of
    the run, as ViTDet; heads and losses of ViT-Adapter's Cascade Mask R-CNN, without masks, which
    Objects365 has not.

    Run:      imglish train objects365_detection_giant --data.root data/objects365 --init RUN
    Needs:    1.9B parameters, texts included, at 1024 x 1024, 64 pictures a step; its weights were
              never released.
    Source:   paper, section 3.2 and appendix C.
    """
    return _giant(
        "objects365_detection_giant",
        replace(_cascade(), mask_head=None),
        side=1024,
        peak=1e-4,
        num_epochs=15,
        data=CocoInstancesData(
            root=Path("data/objects365"),
            train="annotations/zhiyuan_objv2_train.json",
            train_images="train",
            validation="annotations/zhiyuan_objv2_val.json",
            validation_images="val",
        ),
    )


def coco_detection_giant() -> RunConfig:
    """COCO, the paper's giant and Cascade Mask R-CNN: 63.7 box AP, 54.8 mask AP on test-dev.

    It starts from a run of `objects365_detection_giant`, whose windows, pictures and heads it shares; boxes
    are suppressed softly. The published score is of several scales, which the paper does not tell; here it
    is one: set --task.pictures.scored-scales for more.

    Run:      imglish train coco_detection_giant --data.root data/coco --init RUN
    Needs:    1.9B parameters, texts included, at 1280 x 1280, 64 pictures a step, and the run before.
    Source:   paper, section 3.2 and appendix C (score of table 1).
    """
    return _giant(
        "coco_detection_giant",
        _cascade(),
        side=1280,
        peak=5e-5,
        num_epochs=20,
        data=CocoInstancesData(root=Path("data/coco")),
    )


def _cascade() -> TwoStageConfig:
    """Cascade Mask R-CNN on a simple feature pyramid, with soft suppression as HTC++ has it."""
    return replace(
        cascade_mask_rcnn(),
        neck=NeckConfig(kind="simple"),
        selection=BoxSelection(min_score=0.001, nms=NmsSettings(kind="linear")),
    )


def _giant(
    name: str,
    detector: TwoStageConfig,
    *,
    side: int,
    peak: float,
    num_epochs: float,
    data: CocoInstancesData,
) -> RunConfig:
    """What both stages share."""
    model = replace(beit3_giant(drop_path=0.6), patch_size=_PATCH, image_size=(side, side))
    return RunConfig(
        name=name,
        task=DetectionTask(
            model=model,
            backbone="last_map",
            windows=quarter_windows(model.depth),
            detector=detector,
            pictures=DetectionPictures(
                pipeline="large_scale_jitter", side=side, range="model", scored_scales=((side, side),)
            ),
            two_stage_loss=CASCADE_LOSS,
            batch_size=64,
        ),
        data=data,
        optimizer=OptimizerConfig(lr=peak, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1, layer_decay=0.9),
        schedule=ScheduleConfig(kind="step", warmup_steps=250, warmup_lr=1e-3 * peak, drops=_DROPS),
        train=TrainConfig(num_epochs=num_epochs, max_grad_norm=0.0, num_workers=8, save_every=4000, seed=42),
    )
