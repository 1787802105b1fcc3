"""Semantic segmentation with Mask2Former (arXiv 2112.01527): queries claim the mask of one class each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from imglish.decoding.masks import class_scores
from imglish.decoding.scored_views import batch_class_map
from imglish.decoding.sliding import Windows
from imglish.losses.mask_set import MaskSetLoss, all_layers_terms, class_masks, num_matched, uniform_points
from imglish.losses.segmentation import IGNORED_CLASS
from imglish.metrics.segmentation_iou import SegmentationIou
from imglish.models.segmenters.mask2former import Mask2Former
from imglish.ops.points import DrawPoints
from imglish.structures.batches import SegmentationBatch
from imglish.tasks.base import StepOutput, Task


class MaskSegmentationTask(Task):
    """Find one mask for each class of a picture.

    Args:
        model: Pictures to classes and masks.
        metrics: Intersection over union.
        num_queries: Queries of the model: so many masks of a picture can be matched.
        loss: Weights and numbers of the loss.
        windows: How pictures are cut when they are scored; None shows them whole.
        points: From a device to how points are drawn there, at which masks are compared.
    """

    metrics: SegmentationIou

    def __init__(
        self,
        model: Mask2Former,
        metrics: SegmentationIou,
        *,
        num_queries: int,
        loss: MaskSetLoss | None = None,
        windows: Windows | None = None,
        points: Callable[[torch.device], DrawPoints] = uniform_points,
    ) -> None:
        super().__init__()
        self.model, self.metrics, self.num_queries = model, metrics, num_queries
        self.loss, self.windows, self.points = loss or MaskSetLoss(), windows, points

    def counts(self, batch: SegmentationBatch) -> dict[str, int]:
        """Masks that are matched: their terms are means over those of the whole update.

        The cross entropy of classes is a mean of each rank's own, as in the official code.
        """
        matched = sum(min(len(row[row != IGNORED_CLASS].unique()), self.num_queries) for row in batch.masks)
        return {"class": 1, "mask": matched, "dice": matched}

    def training_step(self, batch: SegmentationBatch) -> StepOutput:
        """The terms of every layer's prediction, added up."""
        predictions = self.model(batch.images)
        targets = [class_masks(row) for row in batch.masks]
        draw = self.points(batch.masks.device)
        classes, masks, dice = all_layers_terms(predictions, targets, self.loss, draw)
        loss = classes + (masks + dice) / max(1, num_matched(targets, self.num_queries))
        sums = {"class": classes, "mask": masks, "dice": dice}
        return StepOutput(loss, {"loss": loss.detach()}, sums)

    @torch.no_grad()
    def class_map(self, batch: SegmentationBatch) -> Tensor:
        """The class found at each pixel, int64 (B, H, W), at the size of the masks."""

        def predict(images: Tensor) -> Tensor:
            return class_scores(self.model(images))

        return batch_class_map(predict, batch, self.windows)

    def evaluation_step(self, batch: SegmentationBatch) -> None:
        """Compare the class with the largest score at each pixel."""
        self.metrics.update(self.class_map(batch), batch.masks)
