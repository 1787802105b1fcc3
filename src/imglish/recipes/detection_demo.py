"""Detection on the World: one recipe for each detector, from the weights in the package.

Each reads a World on disk; write one with ``imglish world --out world --train 5000 --validation 500``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from imglish.losses.two_stage import CASCADE_LOSS, HTC_LOSS, TwoStageLoss
from imglish.models.detectors.config import (
    BoxHeadConfig,
    MaskHeadConfig,
    ProposalConfig,
    SemanticHeadConfig,
    TwoStageConfig,
    cascade_mask_rcnn,
    htc,
    mask_rcnn,
)
from imglish.models.detectors.one_stage_config import OneStageConfig
from imglish.models.detectors.sparse_config import SparseRcnnConfig
from imglish.models.segmenters.config import Mask2FormerConfig
from imglish.ops.anchors import AnchorShapes
from imglish.ops.box_sampling import BoxSampling
from imglish.recipes.config import RunConfig
from imglish.recipes.data_config import FolderData
from imglish.recipes.demo_tasks import WORLD_ADAPTER
from imglish.recipes.detection_config import DetectionPictures, DetectionTask, DetectorConfig
from imglish.recipes.world import WORLD_MODEL
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig

_WIDTH = 64  # of necks and heads
_SIDE = 128  # pictures of 64 pixels are shown twice as large
_PICTURES = DetectionPictures(scale=(_SIDE, _SIDE), range="model", scored_scales=((_SIDE, _SIDE),))


def mask_rcnn_demo(*, world: Path = Path("world"), num_steps: int = 800) -> RunConfig:
    """Boxes and masks on the World with ViT-Adapter and Mask R-CNN.

    Run:      imglish train mask_rcnn_demo --data.root world
    Needs:    2 CPU cores, five minutes (0.65 s of a core a step).
    Expect:   box AP 0.885, mask AP 0.903 (three seeds, docs/results.md; 0.78 and 0.77 after 300 steps).
    """
    return _two_stage("mask_rcnn_demo", mask_rcnn(), TwoStageLoss(), num_steps, world)


def cascade_mask_rcnn_demo(*, world: Path = Path("world"), num_steps: int = 800) -> RunConfig:
    """The same with Cascade Mask R-CNN.

    Run:      imglish train cascade_mask_rcnn_demo --data.root world
    """
    return _two_stage("cascade_mask_rcnn_demo", cascade_mask_rcnn(), CASCADE_LOSS, num_steps, world)


def htc_demo(*, world: Path = Path("world"), num_steps: int = 800) -> RunConfig:
    """The same with HTC++: interleaved heads, and a semantic branch on the World's class maps.

    Run:      imglish train htc_demo --data.root world
    """
    settings = replace(
        htc(),
        neck=replace(htc().neck, attention_heads=4, attention_drop_path=0.0),
        semantic_head=SemanticHeadConfig(num_classes=18, num_convs=2, width=_WIDTH),
    )
    return _two_stage("htc_demo", settings, HTC_LOSS, num_steps, world)


def atss_demo(*, world: Path = Path("world"), num_steps: int = 800) -> RunConfig:
    """Boxes on the World with ViT-Adapter and ATSS.

    Run:      imglish train atss_demo --data.root world
    """
    return _recipe("atss_demo", _one_stage("atss"), num_steps, world)


def gfl_demo(*, world: Path = Path("world"), num_steps: int = 800) -> RunConfig:
    """The same with GFL.

    Run:      imglish train gfl_demo --data.root world
    """
    return _recipe("gfl_demo", _one_stage("gfl"), num_steps, world)


def sparse_rcnn_demo(*, world: Path = Path("world"), num_steps: int = 1500) -> RunConfig:
    """The same with Sparse R-CNN, which starts from boxes as large as the picture and so takes longer.

    Run:      imglish train sparse_rcnn_demo --data.root world
    Needs:    2 CPU cores, seven minutes (0.54 s of a core a step).
    Expect:   box AP 0.79, at IoU 0.5 0.88 (one run, 2026-11-22).
    """
    settings = SparseRcnnConfig(
        width=_WIDTH,
        num_proposals=20,
        num_stages=4,
        num_heads=4,
        dynamic_width=16,
        feed_forward_width=2 * _WIDTH,
        num_box_layers=2,
        max_boxes=100,
    )
    config = _recipe("sparse_rcnn_demo", settings, num_steps, world)
    return replace(config, train=replace(config.train, max_grad_norm=1.0))


def mask2former_instances_demo(*, world: Path = Path("world"), num_steps: int = 1500) -> RunConfig:
    """Instances on the World with ViT-Adapter and Mask2Former.

    Run:      imglish train mask2former_instances_demo --data.root world
    """
    return _recipe("mask2former_instances_demo", _mask2former(), num_steps, world)


def mask2former_panoptic_demo(*, world: Path = Path("world"), num_steps: int = 1500) -> RunConfig:
    """Panoptic segments on the World with ViT-Adapter and Mask2Former.

    Run:      imglish train mask2former_panoptic_demo --data.root world
    """
    config = _recipe("mask2former_panoptic_demo", _mask2former(), num_steps, world)
    assert isinstance(config.task, DetectionTask)
    return replace(config, task=replace(config.task, panoptic=True))


def _two_stage(
    name: str, settings: TwoStageConfig, loss: TwoStageLoss, num_steps: int, world: Path
) -> RunConfig:
    """A two-stage detector of the World's size: small heads, few regions."""
    proposals = ProposalConfig(before_nms=200, kept=100)
    small = replace(
        settings,
        neck=replace(settings.neck, width=_WIDTH),
        rpn=replace(
            settings.rpn,
            anchors=AnchorShapes(scales=(4.0,)),
            sampling=BoxSampling(number=64, foreground_share=0.5),
            training=proposals,
            testing=proposals,
        ),
        box_head=BoxHeadConfig(
            num_convs=min(settings.box_head.num_convs, 1),
            num_linears=settings.box_head.num_linears,
            conv_width=_WIDTH,
            width=2 * _WIDTH,
            norm=settings.box_head.norm,
            class_agnostic=settings.box_head.class_agnostic,
        ),
        sampling=BoxSampling(number=32, foreground_share=0.25),
        mask_head=MaskHeadConfig(num_convs=2, width=_WIDTH),
    )
    return _recipe(name, small, num_steps, world, loss)


def _one_stage(kind: str) -> OneStageConfig:
    return OneStageConfig(kind="atss" if kind == "atss" else "gfl", width=_WIDTH, num_convs=2, num_groups=8)


def _mask2former() -> Mask2FormerConfig:
    return Mask2FormerConfig(
        width=_WIDTH,
        num_queries=16,
        num_pixel_layers=2,
        num_layers=3,
        num_heads=4,
        pixel_feed_forward_width=2 * _WIDTH,
        feed_forward_width=2 * _WIDTH,
        num_groups=8,
    )


def _recipe(
    name: str, detector: DetectorConfig, num_steps: int, world: Path, loss: TwoStageLoss | None = None
) -> RunConfig:
    return RunConfig(
        name=name,
        task=DetectionTask(
            model=replace(WORLD_MODEL, image_size=(_SIDE, _SIDE)),
            adapter=WORLD_ADAPTER,
            detector=detector,
            pictures=_PICTURES,
            two_stage_loss=loss or TwoStageLoss(),
            num_points=512,
            batch_size=8,
        ),
        data=FolderData(root=world, num_validation=200),
        init="world",
        optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.05),
        schedule=ScheduleConfig(warmup_steps=min(50, num_steps // 5)),
        train=TrainConfig(
            num_steps=num_steps,
            save_every=max(20, num_steps // 4),
            log_every=max(1, num_steps // 40),
            tensorboard=False,
        ),
    )
