"""Detection with Mask R-CNN, Cascade Mask R-CNN or HTC++: regions first, then boxes and masks of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from imglish.decoding.detections import Areas
from imglish.decoding.found_objects import FoundObjects, find_by_regions, shown_pictures
from imglish.losses.two_stage import TwoStageLoss, two_stage_terms
from imglish.metrics.coco_ap import CocoAp
from imglish.models.detectors.two_stage import TwoStageDetector
from imglish.ops.box_selection import BoxSelection
from imglish.structures.batches import DetectionBatch
from imglish.structures.two_stage import TwoStagePredictions
from imglish.tasks.base import StepOutput, Task


class TwoStageDetectionTask(Task):
    """Find objects, with masks where the detector draws them.

    Args:
        model: Pictures to objects.
        metrics: Average precision.
        loss: Weights and kinds of the terms.
        selection: Which boxes are kept of several views of a picture; as of one view where None.
        areas: Which boxes each of these views gives; empty takes all of every view.
    """

    metrics: CocoAp

    def __init__(
        self,
        model: TwoStageDetector,
        metrics: CocoAp,
        *,
        loss: TwoStageLoss | None = None,
        selection: BoxSelection | None = None,
        areas: Sequence[Areas] = (),
    ) -> None:
        super().__init__()
        self.model: nn.Module = model
        self.metrics, self.loss = metrics, loss or TwoStageLoss()
        self.selection, self.areas = selection or model.config.selection, tuple(areas)

    def training_step(self, batch: DetectionBatch) -> StepOutput:
        """All terms, each a mean over this rank's own regions, as in the official code."""
        predictions: TwoStagePredictions = self.model(batch.images, batch.sizes, batch.targets)
        terms = two_stage_terms(predictions, self.loss, batch.semantic)
        means = {f"loss_{name}": term.mean for name, term in terms.items()}
        loss = torch.stack(list(means.values())).sum()
        return StepOutput(loss, {"loss": loss.detach()} | {name: x.detach() for name, x in means.items()})

    def found(self, batch: DetectionBatch) -> list[FoundObjects]:
        """What is found in each picture."""
        # Several views need more than its forward, which is all that ranks in parallel give.
        detector: Any = getattr(self.model, "module", self.model)
        return [
            find_by_regions(detector, views, size, self.selection, self.areas)
            for size, views in shown_pictures(batch)
        ]

    def evaluation_step(self, batch: DetectionBatch) -> None:
        """Compare what is found with what is there."""
        rows = zip(batch.sample_ids.tolist(), self.found(batch), batch.truths, strict=True)
        for number, found, truth in rows:
            self.metrics.update(number, found.objects, truth, found.masks)
