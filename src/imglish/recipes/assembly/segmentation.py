"""Joining semantic segmentation: ViT-Adapter over BEiT-3's vision side, Semantic FPN."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from imglish.data.formats.mask_folder import read_mask_folder
from imglish.data.loader import SinglePlan, Source
from imglish.data.segmentation import SegmentationDataset, collate_segmentation
from imglish.data.world.annotate import CLASSES
from imglish.data.world.scene import STUFF
from imglish.errors import ConfigError
from imglish.metrics.segmentation_iou import SegmentationIou
from imglish.models.segmenters.semantic import SemanticSegmenter, beit3_segmenter
from imglish.models.vit_adapter.config import ViTAdapterConfig
from imglish.recipes.assembly.base import Assembly, Shares
from imglish.recipes.config import RunConfig, SegmentationTask
from imglish.recipes.records import world_of
from imglish.recipes.run_folder import RunFolder
from imglish.structures.batches import SegmentationBatch
from imglish.tasks.semantic_segmentation import SemanticSegmentationTask

GROUPS = {"stuff": range(len(STUFF)), "things": range(len(STUFF), len(CLASSES))}


def assemble_segmentation(
    config: RunConfig, settings: SegmentationTask, folder: RunFolder, shares: Shares
) -> Assembly[SegmentationBatch]:
    """Class maps of the World."""
    files = world_of(config.data)
    if files is None:
        raise ConfigError(f"data.kind {config.data.kind} has no class maps; expected folder")
    folder.classes_path.write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    records = {s: read_mask_folder(files.mask_images(s), files.masks(s)) for s in ("train", "validation")}
    dataset = SegmentationDataset(
        records=records["train"],
        num_classes=len(CLASSES),
        flip=0.5,
        size=(files.config.picture_size, files.config.picture_size),
    )
    count = config.data.num_validation or len(records["validation"])
    scored = replace(dataset, records=records["validation"][:count], flip=0.0)
    return Assembly(
        task=SemanticSegmentationTask(
            build_segmenter(settings, shares.world_size), SegmentationIou(CLASSES, GROUPS)
        ),
        plan=SinglePlan(
            source=Source(
                dataset=dataset, per_rank=shares.per_rank(settings.batch_size), seed=config.train.seed
            ),
            collate=collate_segmentation,
            rank=shares.rank,
            world_size=shares.world_size,
        ),
        evaluation_set=scored,
        collate=collate_segmentation,
    )


def build_segmenter(settings: SegmentationTask, world_size: int = 1) -> SemanticSegmenter:
    """The segmenter; norms are synchronised where there are several GPUs (torch has no such norm on CPU)."""
    return beit3_segmenter(
        settings.model,
        ViTAdapterConfig(
            num_interactions=settings.num_interactions,
            stem_width=settings.stem_width,
            num_heads=settings.num_heads,
            value_ratio=settings.value_ratio,
        ),
        num_classes=len(CLASSES),
        neck_width=settings.neck_width,
        head_width=settings.head_width,
        norm=nn.SyncBatchNorm if world_size > 1 and torch.cuda.is_available() else nn.BatchNorm2d,
    )
