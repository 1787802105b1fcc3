"""Detection with ATSS or GFL: every cell says what is there."""

from __future__ import annotations

import torch
from torch import nn

from imglish.decoding.boxes import DenseSelection
from imglish.decoding.found_objects import FoundObjects, find_by_cells, shown_pictures
from imglish.losses.one_stage import (
    OneStageLoss,
    dense_targets,
    known_counts,
    mean_terms,
    one_stage_terms,
)
from imglish.metrics.coco_ap import CocoAp
from imglish.models.dense_heads.gfl import GflHead
from imglish.models.detectors.one_stage import OneStageDetector
from imglish.models.detectors.one_stage_config import STRIDES
from imglish.ops.anchors import level_sizes, square_levels
from imglish.structures.batches import DetectionBatch
from imglish.structures.dense_boxes import DensePredictions
from imglish.tasks.base import StepOutput, Task


class OneStageDetectionTask(Task):
    """Find objects by their boxes.

    Args:
        model: Pictures to predictions for every cell.
        metrics: Average precision.
        loss: Weights and numbers of the loss.
        selection: Which boxes are kept, of a view and of several views of a picture.
    """

    metrics: CocoAp

    def __init__(
        self,
        model: OneStageDetector,
        metrics: CocoAp,
        *,
        loss: OneStageLoss | None = None,
        selection: DenseSelection | None = None,
    ) -> None:
        super().__init__()
        self.model: nn.Module = model
        self.anchor_scale, self.by_scores = model.head.anchor_scale, isinstance(model.head, GflHead)
        self.metrics, self.loss = metrics, loss or OneStageLoss()
        self.selection = selection or DenseSelection()

    def counts(self, batch: DetectionBatch) -> dict[str, float]:
        """Cells with an object, and of ATSS how central they are: terms are means over those of the update.

        The official code divides by their means over ranks, which is the same but for batches with hardly an
        object: there it takes 1 on each rank.
        """
        size = (batch.images.shape[-2], batch.images.shape[-1])
        levels = square_levels(level_sizes(size, STRIDES), self.anchor_scale, batch.images.device)
        targets = dense_targets(levels, batch.targets, batch.sizes, self.loss)
        return known_counts(levels, targets, by_scores=self.by_scores)

    def training_step(self, batch: DetectionBatch) -> StepOutput:
        """Classes, boxes, and centerness (ATSS) or distributions of sides (GFL).

        Of GFL the latter two are means over scores that it gives itself: not those of the whole update, but
        of all ranks in each micro step, as in the official code.
        """
        predictions: DensePredictions = self.model(batch.images)
        targets = dense_targets(predictions.levels, batch.targets, batch.sizes, self.loss)
        terms = one_stage_terms(predictions, targets, self.loss)
        loss = torch.stack(list(mean_terms(terms).values())).sum()
        found = None
        if self.by_scores:
            found = {name: count for name, count in terms.counts().items() if name != "classes"}
        return StepOutput(loss, {"loss": loss.detach()}, terms.sums(), found)

    def found(self, batch: DetectionBatch) -> list[FoundObjects]:
        """What is found in each picture."""
        return [
            find_by_cells(self.model, views, size, self.selection) for size, views in shown_pictures(batch)
        ]

    def evaluation_step(self, batch: DetectionBatch) -> None:
        """Compare what is found with what is there."""
        rows = zip(batch.sample_ids.tolist(), self.found(batch), batch.truths, strict=True)
        for number, found, truth in rows:
            self.metrics.update(number, found.objects, truth)
