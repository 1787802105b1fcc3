"""Image-text retrieval with the dual encoder (BEiT-3, section 3.1); also trains the contrastive teacher."""

from __future__ import annotations

import torch

from imglish.losses.contrastive import contrastive_loss
from imglish.metrics.retrieval import RetrievalRecall
from imglish.models.beit3.heads import Beit3ForRetrieval
from imglish.structures.batches import ImageTextBatch
from imglish.tasks.base import StepOutput, Task


class RetrievalTask(Task):
    """Bring matching pictures and texts together, others apart.

    Args:
        model: Dual encoder.
        metrics: Recall at 1, 5 and 10, both ways.
    """

    metrics: RetrievalRecall

    def __init__(self, model: Beit3ForRetrieval, metrics: RetrievalRecall) -> None:
        super().__init__()
        self.model, self.metrics = model, metrics

    def training_step(self, batch: ImageTextBatch) -> StepOutput:
        """Symmetric InfoNCE over the batches of all ranks."""
        vision, text, scale = self.model(batch.images, batch.token_ids, batch.padding)
        loss = contrastive_loss(vision, text, scale)
        found = (vision.detach() @ text.detach().T).argmax(dim=1)
        accuracy = (found == torch.arange(len(found), device=found.device)).float().mean()
        return StepOutput(loss, {"loss": loss.detach(), "accuracy": accuracy, "logit_scale": scale.detach()})

    @torch.no_grad()
    def evaluation_step(self, batch: ImageTextBatch) -> None:
        """Collect features; the first picture of each id is kept, every text counts."""
        vision, text, _ = self.model(batch.images, batch.token_ids, batch.padding)
        self.metrics.update(vision, text, batch.image_ids)
