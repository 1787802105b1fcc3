"""Picture classification with the vision side of BEiT-3 (section 3.2), or with a plain ViT such as BEiT's."""

from __future__ import annotations

import torch

from imglish.losses.classification import class_loss, soft_class_loss
from imglish.metrics.accuracy import ClassAccuracy
from imglish.models.beit3.classification_heads import Beit3ForImageClassification
from imglish.models.vit.model import ViTForClassification
from imglish.structures.batches import ClassificationBatch
from imglish.tasks.base import StepOutput, Task


class ImageClassificationTask(Task):
    """Name what a picture shows.

    Args:
        model: Vision encoder with a head over the mean of its patches.
        metrics: Accuracy of the best and of the best five classes.
        smoothing: Mass spread evenly over all classes, in [0, 1), of batches with one class a picture; mixed
            batches bring soft labels, smoothed already where that is wanted.

    Raises:
        ValueError: The smoothing lies outside its range.
    """

    metrics: ClassAccuracy

    def __init__(
        self,
        model: Beit3ForImageClassification | ViTForClassification,
        metrics: ClassAccuracy,
        *,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(f"smoothing must lie in [0, 1); got {smoothing}")
        self.model, self.metrics, self.smoothing = model, metrics, smoothing

    def training_step(self, batch: ClassificationBatch) -> StepOutput:
        """Cross entropy with smoothed or with mixed classes; accuracy of the class of largest share."""
        logits = self.model(batch.images)
        if batch.soft_labels is None:
            loss, labels = class_loss(logits, batch.labels, smoothing=self.smoothing), batch.labels
        else:
            loss, labels = soft_class_loss(logits, batch.soft_labels), batch.soft_labels.argmax(dim=1)
        accuracy = (logits.detach().argmax(dim=1) == labels).float().mean()
        return StepOutput(loss, {"loss": loss.detach(), "accuracy": accuracy})

    @torch.no_grad()
    def evaluation_step(self, batch: ClassificationBatch) -> None:
        """Score all classes of each picture."""
        self.metrics.update(self.model(batch.images), batch.labels, batch.sample_ids)
