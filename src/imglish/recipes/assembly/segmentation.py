"""Joining semantic segmentation: BEiT-3's vision side, ViT-Adapter or none, and any segmenter on it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import torch
from torch import nn

from imglish.data.formats.mask_folder import MaskRecord
from imglish.data.formats.segmentation_sets import SegmentationFiles
from imglish.data.pictures import read_picture
from imglish.data.segmentation import SegmentationDataset, collate_segmentation
from imglish.data.transforms.segmentation import RandomFlip
from imglish.data.world.annotate import CLASSES
from imglish.data.world.scene import STUFF
from imglish.errors import DataFormatError
from imglish.losses.mask_set import MaskSetLoss
from imglish.metrics.segmentation_iou import SegmentationIou
from imglish.models.segmenters.build import Segmenter, beit3_segmenter
from imglish.models.segmenters.config import Mask2FormerConfig
from imglish.models.segmenters.semantic import SemanticSegmenter
from imglish.recipes.assembly.base import Assembly, Shares, first, training_plan
from imglish.recipes.config import RunConfig, SegmentationTask
from imglish.recipes.data_config import FolderData
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.segmentation_config import CroppedPictures
from imglish.recipes.segmentation_records import segmentation_files
from imglish.structures.batches import SegmentationBatch
from imglish.tasks.mask_segmentation import MaskSegmentationTask
from imglish.tasks.semantic_segmentation import SemanticSegmentationTask

GROUPS = {"stuff": range(len(STUFF)), "things": range(len(STUFF), len(CLASSES))}


def assemble_segmentation(
    config: RunConfig, settings: SegmentationTask, folder: RunFolder, shares: Shares
) -> Assembly[SegmentationBatch]:
    """Class maps of the World, of a published set, or of an own folder."""
    train = segmentation_files(config.data, "train").strict()
    scored = segmentation_files(config.data, "validation", train.labels).strict()
    folder.classes_path.write_text("\n".join(train.labels.classes) + "\n", encoding="utf-8")
    dataset, scoring = _datasets(settings, train, first(scored.records, config.data.num_validation))
    cropped = isinstance(settings.pictures, CroppedPictures)
    return Assembly(
        task=_task(config, settings, train.labels.classes, shares.world_size),
        plan=training_plan(dataset, collate_segmentation, config, shares),
        evaluation_set=scoring,
        collate=collate_segmentation,
        evaluation_batch_size=1 if cropped else 100,
    )


def _datasets(
    settings: SegmentationTask, train: SegmentationFiles, scored: Sequence[MaskRecord]
) -> tuple[SegmentationDataset, SegmentationDataset]:
    """The samples to train on and those to score."""
    dataset = SegmentationDataset(records=train.records, labels=train.labels)
    pictures = settings.pictures
    if isinstance(pictures, CroppedPictures):
        dataset = replace(dataset, transform=pictures.training())
        return dataset, replace(dataset, records=scored, transform=None, scoring=pictures.views())
    dataset = replace(dataset, size=_common_size(train.records), transform=RandomFlip(pictures.flip))
    return dataset, replace(dataset, records=scored, transform=None)


def _common_size(records: Sequence[MaskRecord]) -> tuple[int, int]:
    """(height, width) of the first picture that decodes, which all others must have."""
    for record in records:
        with suppress(DataFormatError):  # damaged ones are counted when their turn comes
            height, width = read_picture(record.path).shape[-2:]
            return height, width
    raise DataFormatError(f"none of the {len(records)} training pictures decodes; get them again")


def _task(
    config: RunConfig, settings: SegmentationTask, classes: tuple[str, ...], world_size: int
) -> SemanticSegmentationTask | MaskSegmentationTask:
    """The task of the segmenter's kind."""
    model = build_segmenter(settings, len(classes), world_size)
    metrics = SegmentationIou(classes, GROUPS if isinstance(config.data, FolderData) else None)
    windows = settings.pictures.windows() if isinstance(settings.pictures, CroppedPictures) else None
    if isinstance(model, SemanticSegmenter):
        return SemanticSegmentationTask(
            model, metrics, auxiliary_weight=settings.auxiliary_weight, windows=windows
        )
    assert isinstance(settings.segmenter, Mask2FormerConfig)
    loss = MaskSetLoss(num_points=settings.num_points)
    return MaskSegmentationTask(
        model, metrics, num_queries=settings.segmenter.num_queries, loss=loss, windows=windows
    )


def build_segmenter(settings: SegmentationTask, num_classes: int, world_size: int = 1) -> Segmenter:
    """The segmenter; norms are synchronised where there are several GPUs (torch has no such norm on CPU)."""
    return beit3_segmenter(
        settings.model,
        settings.adapter if settings.backbone == "vit_adapter" else None,
        settings.segmenter,
        num_classes=num_classes,
        norm=nn.SyncBatchNorm if world_size > 1 and torch.cuda.is_available() else nn.BatchNorm2d,
    )
