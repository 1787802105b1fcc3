"""Semantic segmentation by a class for each pixel (ViT-Adapter, section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from imglish.decoding.scored_views import batch_class_map
from imglish.decoding.sliding import Windows
from imglish.losses.segmentation import pixel_cross_entropy
from imglish.metrics.segmentation_iou import SegmentationIou
from imglish.models.segmenters.semantic import SemanticSegmenter
from imglish.structures.batches import SegmentationBatch
from imglish.tasks.base import StepOutput, Task


class SemanticSegmentationTask(Task):
    """Give every pixel a class.

    Args:
        model: Pictures to logits.
        metrics: Intersection over union.
        auxiliary_weight: Weight of the auxiliary head's loss, where the model has one; 0.4 as published.
        windows: How pictures are cut when they are scored; None shows them whole.
    """

    metrics: SegmentationIou

    def __init__(
        self,
        model: SemanticSegmenter,
        metrics: SegmentationIou,
        *,
        auxiliary_weight: float = 0.4,
        windows: Windows | None = None,
    ) -> None:
        super().__init__()
        self.model, self.metrics = model, metrics
        self.auxiliary_weight, self.windows = auxiliary_weight, windows
        self._has_auxiliary = model.auxiliary is not None  # the model itself may be wrapped later

    def training_step(self, batch: SegmentationBatch) -> StepOutput:
        """Cross entropy of every labelled pixel, of both heads."""
        if not self._has_auxiliary:
            loss = pixel_cross_entropy(self.model(batch.images), batch.masks)
            return StepOutput(loss, {"loss": loss.detach()})
        logits, auxiliary = self.model(batch.images, with_auxiliary=True)
        main = pixel_cross_entropy(logits, batch.masks)
        helping = self.auxiliary_weight * pixel_cross_entropy(auxiliary, batch.masks)
        loss = main + helping
        logs = {"loss": loss.detach(), "loss_main": main.detach(), "loss_auxiliary": helping.detach()}
        return StepOutput(loss, logs)

    @torch.no_grad()
    def class_map(self, batch: SegmentationBatch) -> Tensor:
        """The class found at each pixel, int64 (B, H, W), at the size of the masks."""

        def predict(images: Tensor) -> Tensor:
            logits: Tensor = self.model(images)
            return logits

        return batch_class_map(predict, batch, self.windows)

    def evaluation_step(self, batch: SegmentationBatch) -> None:
        """Compare the most probable class of each pixel."""
        self.metrics.update(self.class_map(batch), batch.masks)
