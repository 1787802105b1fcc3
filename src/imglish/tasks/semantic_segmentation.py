"""Semantic segmentation (ViT-Adapter, section 4.2)."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from imglish.losses.segmentation import pixel_cross_entropy
from imglish.metrics.segmentation_iou import SegmentationIou
from imglish.models.segmenters.semantic import SemanticSegmenter
from imglish.structures.batches import SegmentationBatch
from imglish.tasks.base import StepOutput, Task


class SemanticSegmentationTask(Task):
    """Give every pixel a class.

    Args:
        model: Pictures to logits at stride 4.
        metrics: Intersection over union.
    """

    metrics: SegmentationIou

    def __init__(self, model: SemanticSegmenter, metrics: SegmentationIou) -> None:
        super().__init__()
        self.model, self.metrics = model, metrics

    def training_step(self, batch: SegmentationBatch) -> StepOutput:
        """Cross entropy of every labelled pixel."""
        loss = pixel_cross_entropy(self.model(batch.images), batch.masks)
        return StepOutput(loss, {"loss": loss.detach()})

    @torch.no_grad()
    def evaluation_step(self, batch: SegmentationBatch) -> None:
        """Compare the most probable class of each pixel."""
        logits = self.model(batch.images)
        logits = F.interpolate(logits, size=batch.masks.shape[-2:], mode="bilinear", align_corners=False)
        self.metrics.update(logits.argmax(dim=1), batch.masks)
