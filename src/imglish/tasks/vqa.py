"""Visual question answering: fusion encoder, closed set of answers (BEiT-3, section 3.1)."""

from __future__ import annotations

import torch

from imglish.losses.answers import answer_loss
from imglish.metrics.vqa_accuracy import VqaAccuracy
from imglish.models.beit3.heads import Beit3ForVqa
from imglish.structures.batches import VqaBatch
from imglish.tasks.base import StepOutput, Task


class VqaTask(Task):
    """Answer a question about a picture by scoring a closed set of answers.

    Args:
        model: Fusion encoder with an answer head.
        metrics: Soft accuracy, overall and by question type.
    """

    metrics: VqaAccuracy

    def __init__(self, model: Beit3ForVqa, metrics: VqaAccuracy) -> None:
        super().__init__()
        self.model, self.metrics = model, metrics

    def training_step(self, batch: VqaBatch) -> StepOutput:
        """Binary cross entropy over all answers."""
        logits = self.model(batch.images, batch.token_ids, batch.padding)
        loss = answer_loss(logits, batch.answers)
        score = batch.answers.gather(1, logits.detach().argmax(dim=1, keepdim=True)).mean()
        return StepOutput(loss, {"loss": loss.detach(), "accuracy": score})

    @torch.no_grad()
    def evaluation_step(self, batch: VqaBatch) -> None:
        """Score the most probable answer of each question."""
        logits = self.model(batch.images, batch.token_ids, batch.padding)
        self.metrics.update(logits.argmax(dim=1), batch.answers, batch.question_types, batch.sample_ids)
