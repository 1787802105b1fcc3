"""The World model's heads: every task on one encoder, from the weights in the package.

They lie in the package beside these weights; `imglish.recipes.embed` puts them there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from imglish.models.detectors.config import TwoStageConfig
from imglish.models.segmenters.config import SemanticFpnConfig
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.ops.anchors import AnchorShapes
from imglish.recipes.config import (
    CaptioningTask,
    ImageClassificationTask,
    JointTask,
    RetrievalTask,
    RunConfig,
    SegmentationTask,
    VqaTask,
)
from imglish.recipes.data_config import FolderData
from imglish.recipes.detection_config import DetectionPictures, DetectionTask
from imglish.recipes.detection_demo import mask_rcnn_demo
from imglish.recipes.world import WORLD_MODEL
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig

_ADAPTER = ViTAdapterConfig(
    num_interactions=2, components="prior_extractor", stem_width=32, num_heads=4, num_extra_extractors=1
)
_SIDE = 64  # pictures are seen at the size of the encoder's, by every head


def world_heads(*, world: Path = Path("world"), init: str = "world", num_steps: int = 4000) -> RunConfig:
    """Answers, captions, classes, retrieval, class maps, boxes and masks of the World on one encoder.

    Run:      imglish world --out world --train 20000 --validation 500
              imglish train world_heads --data.root world
    Needs:    2 CPU cores, 15 minutes. Scores: the card, src/imglish/hub/world/card.md.

    Args:
        world: The folder of the World.
        init: What to start from.
        num_steps: Updates, of all tasks together.
    """
    task = JointTask(
        model=WORLD_MODEL,
        vqa=VqaTask(
            model=WORLD_MODEL, picture_alone=True, min_answer_count=5, max_text_tokens=32, batch_size=32
        ),
        captioning=CaptioningTask(model=WORLD_MODEL, picture_alone=True, max_text_tokens=48, batch_size=32),
        retrieval=RetrievalTask(model=WORLD_MODEL, max_text_tokens=48, batch_size=64),
        image_classification=ImageClassificationTask(
            model=WORLD_MODEL, pictures="model", mix=False, smoothing=0.1, batch_size=32
        ),
        segmentation=SegmentationTask(
            model=WORLD_MODEL,
            adapter=_ADAPTER,
            segmenter=SemanticFpnConfig(neck_width=32, head_width=32),
            batch_size=16,
        ),
        detection=_detection(world),
        turns={"vqa": 3, "captioning": 2, "segmentation": 2, "detection": 4},
    )
    return RunConfig(
        name="world_heads",
        task=task,
        data=FolderData(root=world, num_validation=500),
        init=init,
        optimizer=OptimizerConfig(lr=4e-4, weight_decay=0.05, head_lr_scale=3.0),
        schedule=ScheduleConfig(warmup_steps=min(100, num_steps // 5)),
        train=TrainConfig(
            num_steps=num_steps,
            save_every=max(20, num_steps // 10),
            log_every=max(1, num_steps // 100),
            tensorboard=False,
        ),
    )


def _detection(world: Path) -> DetectionTask:
    """Mask R-CNN as in the demo, with anchors and widths for pictures half as large."""
    demo = mask_rcnn_demo(world=world).task
    assert isinstance(demo, DetectionTask) and isinstance(demo.detector, TwoStageConfig)
    detector = demo.detector
    width = 48
    assert detector.mask_head is not None
    return replace(
        demo,
        model=WORLD_MODEL,
        adapter=_ADAPTER,
        detector=replace(
            detector,
            neck=replace(detector.neck, width=width),
            rpn=replace(detector.rpn, anchors=AnchorShapes(scales=(2.0,))),
            box_head=replace(detector.box_head, width=2 * width),
            mask_head=replace(detector.mask_head, width=width),
        ),
        pictures=DetectionPictures(
            pipeline="one_scale",
            scale=(_SIDE, _SIDE),
            range="model",
            scored_scales=((_SIDE, _SIDE),),
        ),
    )
