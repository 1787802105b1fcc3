"""Detection with Sparse R-CNN: a set of learned boxes, each of which becomes an object or background."""

from __future__ import annotations

import torch
from torch import nn

from imglish.decoding.box_sets import find_by_set
from imglish.decoding.found_objects import FoundObjects, shown_pictures
from imglish.losses.sparse_rcnn import SparseRcnnLoss, num_matched, sparse_rcnn_terms
from imglish.metrics.coco_ap import CocoAp
from imglish.models.detectors.sparse_rcnn import SparseRcnn
from imglish.structures.batches import DetectionBatch
from imglish.structures.box_set import BoxSet
from imglish.tasks.base import StepOutput, Task

_TERMS = ("class", "box", "giou")  # their names in logs


class SparseDetectionTask(Task):
    """Find objects by their boxes.

    Args:
        model: Pictures to what is said after each stage.
        metrics: Average precision.
        loss: Weights and numbers of the loss.
    """

    metrics: CocoAp

    def __init__(self, model: SparseRcnn, metrics: CocoAp, *, loss: SparseRcnnLoss | None = None) -> None:
        super().__init__()
        self.model: nn.Module = model
        self.config = model.config
        self.metrics, self.loss = metrics, loss or SparseRcnnLoss()

    def counts(self, batch: DetectionBatch) -> dict[str, int]:
        """Boxes that are matched: all terms are means over those of the whole update.

        The official code divides by their mean over ranks, which is the same.
        """
        return dict.fromkeys(_TERMS, num_matched(batch.targets, self.config.num_proposals))

    def training_step(self, batch: DetectionBatch) -> StepOutput:
        """Classes, sides and overlaps, each added up over stages."""
        stages: tuple[BoxSet, ...] = self.model(batch.images, batch.sizes)
        terms = sparse_rcnn_terms(stages, batch.targets, batch.sizes, self.loss)
        sums = dict(zip(_TERMS, terms, strict=True))
        matched = max(1, num_matched(batch.targets, self.config.num_proposals))
        loss = torch.stack(list(sums.values())).sum() / matched
        return StepOutput(loss, {"loss": loss.detach()}, sums)

    def found(self, batch: DetectionBatch) -> list[FoundObjects]:
        """What is found in each picture, which is shown in one view."""
        return [
            find_by_set(self.model, views[0], size, self.config.max_boxes)
            for size, views in shown_pictures(batch)
        ]

    def evaluation_step(self, batch: DetectionBatch) -> None:
        """Compare what is found with what is there."""
        rows = zip(batch.sample_ids.tolist(), self.found(batch), batch.truths, strict=True)
        for number, found, truth in rows:
            self.metrics.update(number, found.objects, truth)
