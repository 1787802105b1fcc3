"""Visual reasoning: is a statement about two pictures true (BEiT-3, section 3.1)?"""

from __future__ import annotations

import torch

from imglish.losses.classification import class_loss
from imglish.metrics.accuracy import Nlvr2Accuracy
from imglish.models.beit3.classification_heads import Beit3ForNlvr2
from imglish.structures.batches import Nlvr2Batch
from imglish.tasks.base import StepOutput, Task


class Nlvr2Task(Task):
    """Judge statements about two pictures.

    Args:
        model: Fusion encoder with a head over both fused sequences.
        metrics: Accuracy and consistency.
    """

    metrics: Nlvr2Accuracy

    def __init__(self, model: Beit3ForNlvr2, metrics: Nlvr2Accuracy) -> None:
        super().__init__()
        self.model, self.metrics = model, metrics

    def training_step(self, batch: Nlvr2Batch) -> StepOutput:
        """Cross entropy of false and true."""
        logits = self.model(batch.left, batch.right, batch.token_ids, batch.padding)
        loss = class_loss(logits, batch.labels)
        accuracy = (logits.detach().argmax(dim=1) == batch.labels).float().mean()
        return StepOutput(loss, {"loss": loss.detach(), "accuracy": accuracy})

    @torch.no_grad()
    def evaluation_step(self, batch: Nlvr2Batch) -> None:
        """Score the more probable judgement of each statement."""
        logits = self.model(batch.left, batch.right, batch.token_ids, batch.padding)
        self.metrics.update(logits.argmax(dim=1), batch.labels, batch.statement_ids, batch.sample_ids)
