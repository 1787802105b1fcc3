"""Instances and panoptic segments with Mask2Former (arXiv 2112.01527)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from imglish.decoding.found_objects import (
    FoundObjects,
    find_instances,
    find_segments,
    shown_pictures,
)
from imglish.losses.mask_set import MaskSetLoss, all_layers_terms, num_matched, uniform_points
from imglish.metrics.coco_ap import CocoAp
from imglish.metrics.panoptic_quality import PanopticQuality
from imglish.models.segmenters.mask2former import Mask2Former
from imglish.ops.points import DrawPoints
from imglish.structures.batches import DetectionBatch
from imglish.structures.instances import Instances, PanopticMap
from imglish.structures.mask_predictions import MaskTargets
from imglish.tasks.base import StepOutput, Task


class InstanceSegmentationTask(Task):
    """Find one mask for each object, or for each segment of things and stuff.

    Args:
        model: Pictures to classes and masks.
        metrics: Average precision of instances, or panoptic quality.
        is_thing: For each class whether it is a thing; of instances all are.
        num_queries: Queries of the model: so many masks of a picture can be matched.
        loss: Weights and numbers of the loss.
        max_instances: Of a picture.
        points: From a device to how points are drawn there, at which masks are compared.
    """

    metrics: CocoAp | PanopticQuality

    def __init__(
        self,
        model: Mask2Former,
        metrics: CocoAp | PanopticQuality,
        *,
        is_thing: Sequence[bool],
        num_queries: int,
        loss: MaskSetLoss | None = None,
        max_instances: int = 100,
        points: Callable[[torch.device], DrawPoints] = uniform_points,
    ) -> None:
        super().__init__()
        self.model: nn.Module = model
        self.metrics, self.is_thing = metrics, tuple(is_thing)
        self.num_queries, self.max_instances = num_queries, max_instances
        self.loss, self.points = loss or MaskSetLoss(), points

    def counts(self, batch: DetectionBatch) -> dict[str, int]:
        """Masks that are matched: their terms are means over those of the whole update.

        The cross entropy of classes is a mean of each rank's own, as in the official code.
        """
        matched = num_matched([self._masks_of(one) for one in batch.targets], self.num_queries)
        return {"class": 1, "mask": matched, "dice": matched}

    def training_step(self, batch: DetectionBatch) -> StepOutput:
        """The terms of every layer's prediction, added up."""
        predictions = self.model(batch.images)
        targets = [self._masks_of(one) for one in batch.targets]
        draw = self.points(batch.images.device)
        classes, masks, dice = all_layers_terms(predictions, targets, self.loss, draw)
        loss = classes + (masks + dice) / max(1, num_matched(targets, self.num_queries))
        sums = {"class": classes, "mask": masks, "dice": dice}
        return StepOutput(loss, {"loss": loss.detach()}, sums)

    def found(self, batch: DetectionBatch) -> list[FoundObjects]:
        """The instances of each picture."""
        return [
            find_instances(self.model, views[0], size, self.is_thing, max_instances=self.max_instances)
            for size, views in shown_pictures(batch)
        ]

    def segments(self, batch: DetectionBatch) -> list[PanopticMap]:
        """The panoptic segments of each picture."""
        return [
            find_segments(self.model, views[0], size, self.is_thing).segments
            for size, views in shown_pictures(batch)
        ]

    def evaluation_step(self, batch: DetectionBatch) -> None:
        """Compare what is found with what is there."""
        if isinstance(self.metrics, PanopticQuality):
            for segments, true in zip(self.segments(batch), batch.panoptic, strict=True):
                self.metrics.update(segments, true)
            return
        rows = zip(batch.sample_ids.tolist(), self.found(batch), batch.truths, strict=True)
        for number, found, truth in rows:
            self.metrics.update(number, found.objects, truth, found.masks)

    def _masks_of(self, objects: Instances) -> MaskTargets:
        """The masks that are to be found: crowds are none, nor is stuff without a pixel.

        A thing that a crop has left no pixel of is one: the official code takes stuff from the pixels of the
        class map, but things by their boxes.

        Raises:
            ValueError: There are objects without masks.
        """
        if objects.masks is None:
            raise ValueError("the pictures have objects without masks, which Mask2Former learns from")
        things = torch.tensor(self.is_thing, device=objects.labels.device)[objects.labels]
        single = objects.take(~objects.crowd & (things | objects.masks.flatten(1).any(dim=1)))
        assert single.masks is not None
        return MaskTargets(single.labels, single.masks)
