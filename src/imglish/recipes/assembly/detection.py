"""Joining detection: a plain ViT, ViT-Adapter or none, and any detector on it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from imglish.data.detection import DetectionDataset, collate_detection, scored_on, trained_on
from imglish.data.formats.instances import class_names
from imglish.errors import ConfigError
from imglish.losses.mask_set import MaskSetLoss
from imglish.metrics.coco_ap import CocoAp, Compared
from imglish.metrics.panoptic_quality import PanopticQuality
from imglish.models.detectors.config import TwoStageConfig
from imglish.models.detectors.on_backbone import Detector, detector_on
from imglish.models.detectors.one_stage import OneStageDetector
from imglish.models.detectors.one_stage_config import OneStageConfig
from imglish.models.detectors.sparse_config import SparseRcnnConfig
from imglish.models.detectors.sparse_rcnn import SparseRcnn
from imglish.models.detectors.two_stage import TwoStageDetector
from imglish.models.segmenters.config import Mask2FormerConfig
from imglish.models.segmenters.mask2former import Mask2Former
from imglish.models.segmenters.on_backbone import segmenter_on
from imglish.recipes.assembly.base import (
    Assembly,
    Shares,
    Splits,
    first,
    nothing_told,
    training_plan,
    write_names,
)
from imglish.recipes.config import RunConfig
from imglish.recipes.detection_config import DetectionTask
from imglish.recipes.detection_records import detection_files, panoptic_file, segmented_pictures
from imglish.recipes.run_folder import RunFolder
from imglish.structures.batches import DetectionBatch
from imglish.tasks.instance_segmentation import InstanceSegmentationTask
from imglish.tasks.one_stage_detection import OneStageDetectionTask
from imglish.tasks.sparse_detection import SparseDetectionTask
from imglish.tasks.two_stage_detection import TwoStageDetectionTask

log = logging.getLogger(__name__)
_Task = TwoStageDetectionTask | OneStageDetectionTask | SparseDetectionTask | InstanceSegmentationTask


def assemble_detection(
    config: RunConfig, settings: DetectionTask, folder: RunFolder, shares: Shares, splits: Splits
) -> Assembly[DetectionBatch]:
    """Objects of the World, of a COCO-style json or of YOLO labels; or segments of things and stuff.

    Raises:
        ConfigError: Model, adapter and detector do not go together, or the data has no masks.
        DataFormatError: A file is missing or damaged, or no picture has an object.
    """
    assemble = _segments if settings.panoptic else _objects
    task, training, scoring, classes, untold = assemble(config, settings, splits)
    write_names(folder.classes_path, classes, "classes", known=not splits.train)
    if isinstance(task, InstanceSegmentationTask) and settings.panoptic:
        things = [name for name, is_thing in zip(classes, task.is_thing, strict=True) if is_thing]
        write_names(folder.things_path, things, "things", known=not splits.train)
    plan = None
    if training is not None:
        plan = training_plan(training, collate_detection, config, shares, training.groups())
    return Assembly(
        task=task,
        plan=plan,
        evaluation_set=scoring,
        collate=collate_detection,
        evaluation_batch_size=1,  # views of several pictures have several sizes
        unscored=nothing_told(splits.scored, untold) if untold else "",
    )


class _Joined(NamedTuple):
    """What is learned from and scored on, and what nobody has told of the latter; empty where all is told."""

    task: _Task
    training: DetectionDataset | None
    scoring: DetectionDataset
    classes: tuple[str, ...]
    untold: str = ""


def _objects(config: RunConfig, settings: DetectionTask, splits: Splits) -> _Joined:
    """Single objects, with masks where the detector draws them."""
    train = detection_files(config.data, "train").usable() if splits.train else None
    scored = detection_files(config.data, splits.scored, None if train is None else train.categories)
    scored = scored.usable(needs_objects=splits.scored != "test")
    classes = scored.classes
    masks = draws_masks(settings)
    training = None
    if train is not None:
        if masks and not train.records.num_outlines:
            raise ConfigError(
                f"task.detector draws masks, but the data of kind {config.data.kind} has none; set "
                "task.detector.mask_head to null, or use atss or gfl"
            )
        wants_maps = isinstance(settings.detector, TwoStageConfig) and settings.detector.semantic_head
        if wants_maps and train.semantic is None:
            raise ConfigError("the semantic branch needs class maps; name them as data.semantic")
        training = DetectionDataset(
            records=trained_on(train.records),
            transform=settings.pictures.training(),
            masks=masks,
            semantic=train.semantic if wants_maps else None,
        )
    scoring = DetectionDataset(
        records=first(scored_on(scored.records), config.data.num_validation),
        scoring=settings.pictures.views(),
        masks=masks and scored.has_masks,
    )
    if masks and not scored.has_masks and scored.records.num_objects:
        log.warning(
            "masks are not scored: %d of the %d objects to score have no outline (see imglish data check)",
            scored.records.num_objects - scored.records.num_outlines,
            scored.records.num_objects,
        )
    compared: Sequence[Compared] = ("box", "mask") if masks and scored.has_masks else ("box",)
    task = _task(settings, CocoAp(classes, compared), [True] * len(classes))
    untold = "" if scored.records.num_objects else f"{len(scored.records)} pictures without objects"
    return _Joined(task, training, scoring, classes, untold)


def _segments(config: RunConfig, settings: DetectionTask, splits: Splits) -> _Joined:
    """Segments of things and stuff."""
    train = panoptic_file(config.data, "train") if splits.train else None
    scored = segmented_pictures(config.data, splits.scored, None if train is None else train.categories)
    classes = class_names(scored.categories)
    things = [category.is_thing for category in scored.categories]
    training = None
    if train is not None:
        thing_labels = [label for label, is_thing in enumerate(things) if is_thing]
        training = DetectionDataset(
            records=train.records.trained_on(thing_labels), transform=settings.pictures.training()
        )
    scoring = DetectionDataset(
        records=first(scored.records, config.data.num_validation), scoring=settings.pictures.views()
    )
    task = _task(settings, PanopticQuality(classes, things), things)
    untold = "" if scored.told else f"{len(scored.records)} pictures without segments"
    return _Joined(task, training, scoring, classes, untold)


def draws_masks(settings: DetectionTask) -> bool:
    """Whether the detector finds masks besides boxes."""
    match settings.detector:
        case TwoStageConfig(mask_head=head):
            return head is not None
        case OneStageConfig() | SparseRcnnConfig():
            return False
        case Mask2FormerConfig():
            return True


def _task(settings: DetectionTask, metrics: CocoAp | PanopticQuality, things: Sequence[bool]) -> _Task:
    """The task of the detector's kind."""
    model = build_detector(settings, len(things))
    if isinstance(model, Mask2Former):
        assert isinstance(settings.detector, Mask2FormerConfig)
        return InstanceSegmentationTask(
            model,
            metrics,
            is_thing=things,
            num_queries=settings.detector.num_queries,
            loss=MaskSetLoss(num_points=settings.num_points),
        )
    assert isinstance(metrics, CocoAp)
    if isinstance(model, OneStageDetector):
        return OneStageDetectionTask(
            model, metrics, loss=settings.one_stage_loss, selection=settings.selection
        )
    if isinstance(model, SparseRcnn):
        return SparseDetectionTask(model, metrics, loss=settings.sparse_rcnn_loss)
    assert isinstance(model, TwoStageDetector)
    return TwoStageDetectionTask(
        model, metrics, loss=settings.two_stage_loss, areas=settings.pictures.areas()
    )


def build_detector(settings: DetectionTask, num_classes: int) -> Detector | Mask2Former:
    """The detector of a task.

    Raises:
        ConfigError: Model, adapter and detector do not go together.
    """
    try:
        return _build(settings, num_classes)
    except ValueError as error:
        raise ConfigError(f"task: {error}") from error


def _build(settings: DetectionTask, num_classes: int) -> Detector | Mask2Former:
    detector = settings.detector
    if isinstance(detector, Mask2FormerConfig):
        model = segmenter_on(
            settings.model,
            settings.adapter if settings.backbone == "vit_adapter" else None,
            detector,
            num_classes=num_classes,
            out_blocks=settings.out_blocks,
        )
        assert isinstance(model, Mask2Former)
        return model
    return detector_on(
        settings.model,
        settings.backbone,
        settings.adapter,
        detector,
        num_classes=num_classes,
        out_blocks=settings.out_blocks,
        windows=settings.windows,
    )
