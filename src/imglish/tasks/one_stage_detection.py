"""Detection with ATSS or GFL: every cell says what is there."""

from __future__ import annotations

import torch
from torch import nn

from imglish.decoding.boxes import DenseSelection
from imglish.decoding.found_objects import FoundObjects, find_by_cells, shown_pictures
from imglish.losses.one_stage import OneStageLoss, dense_targets, mean_terms, one_stage_terms
from imglish.metrics.coco_ap import CocoAp
from imglish.models.detectors.one_stage import OneStageDetector
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
        self.metrics, self.loss = metrics, loss or OneStageLoss()
        self.selection = selection or DenseSelection()

    def training_step(self, batch: DetectionBatch) -> StepOutput:
        """Classes, boxes, and centerness (ATSS) or distributions of sides (GFL).

        Each is a mean over what this rank's own batch has.
        """
        predictions: DensePredictions = self.model(batch.images)
        targets = dense_targets(predictions.levels, batch.targets, batch.sizes, self.loss)
        terms = one_stage_terms(predictions, targets, self.loss)
        means = {f"loss_{name}": mean for name, mean in mean_terms(terms).items()}
        loss = torch.stack(list(means.values())).sum()
        return StepOutput(loss, {"loss": loss.detach()} | {name: x.detach() for name, x in means.items()})

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
