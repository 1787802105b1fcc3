"""Joining semantic segmentation: a plain ViT, ViT-Adapter or none, and any segmenter on it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from imglish.data.formats.mask_folder import MaskRecord
from imglish.data.formats.mask_labels import MaskLabels
from imglish.data.formats.segmentation_sets import SegmentationFiles
from imglish.data.pictures import read_picture
from imglish.data.segmentation import SegmentationDataset, collate_segmentation
from imglish.data.transforms.segmentation import RandomFlip
from imglish.data.world.annotate import CLASSES
from imglish.data.world.scene import STUFF
from imglish.errors import ConfigError, DataFormatError
from imglish.losses.mask_set import MaskSetLoss
from imglish.metrics.segmentation_iou import SegmentationIou
from imglish.models.segmenters.build import Segmenter
from imglish.models.segmenters.config import Mask2FormerConfig
from imglish.models.segmenters.on_backbone import segmenter_on
from imglish.models.segmenters.semantic import SemanticSegmenter
from imglish.recipes.assembly.base import Assembly, Shares, Splits, first, training_plan, write_names
from imglish.recipes.config import RunConfig, SegmentationTask
from imglish.recipes.data_config import FolderData, SegmentationSetData
from imglish.recipes.run_folder import RunFolder
from imglish.recipes.segmentation_config import CroppedPictures
from imglish.recipes.segmentation_records import segmentation_files
from imglish.structures.batches import SegmentationBatch
from imglish.tasks.mask_segmentation import MaskSegmentationTask
from imglish.tasks.semantic_segmentation import SemanticSegmentationTask

GROUPS = {"stuff": range(len(STUFF)), "things": range(len(STUFF), len(CLASSES))}


def assemble_segmentation(
    config: RunConfig, settings: SegmentationTask, folder: RunFolder, shares: Shares, splits: Splits
) -> Assembly[SegmentationBatch]:
    """Class maps of the World, of a published set, or of an own folder.

    Raises:
        ConfigError: Model, adapter and head do not go together.
        DataFormatError: A file is missing or damaged, or a finished run has learned other classes.
    """
    train = None
    # The classes of a published set are known; those of an own folder are told by its training masks.
    if splits.train or not isinstance(config.data, SegmentationSetData):
        train = segmentation_files(config.data, "train").strict()
    scored = segmentation_files(config.data, "validation", None if train is None else train.labels).strict()
    labels = scored.labels if train is None else train.labels
    write_names(folder.classes_path, labels.classes, "classes", known=not splits.train)
    task = _task(config, settings, labels.classes)
    plan = None
    if train is not None and splits.train:
        plan = training_plan(_training(settings, train), collate_segmentation, config, shares)
    return Assembly(
        task=task,
        plan=plan,
        evaluation_set=_scoring(config, settings, labels, train, scored),
        collate=collate_segmentation,
        evaluation_batch_size=1 if isinstance(settings.pictures, CroppedPictures) else 100,
    )


def _training(settings: SegmentationTask, train: SegmentationFiles) -> SegmentationDataset:
    """The samples to train on."""
    dataset = SegmentationDataset(records=train.records, labels=train.labels)
    pictures = settings.pictures
    if isinstance(pictures, CroppedPictures):
        return replace(dataset, transform=pictures.training())
    return replace(dataset, size=_common_size(train.records), transform=RandomFlip(pictures.flip))


def _scoring(
    config: RunConfig,
    settings: SegmentationTask,
    labels: MaskLabels,
    train: SegmentationFiles | None,
    scored: SegmentationFiles,
) -> SegmentationDataset:
    """The samples to score; whole pictures have the size of those to train on."""
    records = first(scored.records, config.data.num_validation)
    dataset = SegmentationDataset(records=records, labels=labels)
    if isinstance(settings.pictures, CroppedPictures):
        return replace(dataset, scoring=settings.pictures.views())
    return replace(dataset, size=_common_size(records if train is None else train.records))


def _common_size(records: Sequence[MaskRecord]) -> tuple[int, int]:
    """(height, width) of the first picture that decodes, which all others must have."""
    for record in records:
        with suppress(DataFormatError):  # damaged ones are counted when their turn comes
            height, width = read_picture(record.path).shape[-2:]
            return height, width
    raise DataFormatError(f"none of the {len(records)} pictures decodes; get them again")


def _task(
    config: RunConfig, settings: SegmentationTask, classes: tuple[str, ...]
) -> SemanticSegmentationTask | MaskSegmentationTask:
    """The task of the segmenter's kind."""
    model = build_segmenter(settings, len(classes))
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


def build_segmenter(settings: SegmentationTask, num_classes: int) -> Segmenter:
    """The segmenter; `train.parallelize` synchronises its norms where there are several GPUs.

    Raises:
        ConfigError: Model, adapter and head do not go together.
    """
    plain = settings.backbone == "plain_vit"
    try:
        return segmenter_on(
            settings.model,
            None if plain else settings.adapter,
            settings.segmenter,
            num_classes=num_classes,
            out_blocks=settings.out_blocks if plain else (),
        )
    except ValueError as error:
        raise ConfigError(f"task: {error}") from error
