"""Image captioning: masked fine-tuning with a prefix-causal mask (BEiT-3, section 3.1)."""

from __future__ import annotations

import torch

from imglish.losses.answers import num_kept_words, smoothed_word_loss
from imglish.metrics.token_accuracy import TokenAccuracy, share_found
from imglish.models.beit3.heads import Beit3ForCaptioning
from imglish.structures.batches import IGNORE, CaptionBatch
from imglish.tasks.base import StepOutput, Task


class CaptioningTask(Task):
    """Predict hidden words of a caption from the picture and the words before them.

    Args:
        model: Image-to-text generator.
        smoothing: Label smoothing (0.1 in paper and released recipe).
        drop_worst: Share of largest word losses that do not count, 0.2 in the released recipe; 0 counts all.
            They are the largest of each rank's batch, as in the released code, not of all ranks together.
        drop_after: Updates after which they are dropped.
    """

    metrics: TokenAccuracy

    def __init__(
        self,
        model: Beit3ForCaptioning,
        *,
        smoothing: float = 0.1,
        drop_worst: float = 0.0,
        drop_after: int = 12_000,
    ) -> None:
        super().__init__()
        self.model, self.smoothing = model, smoothing
        self.drop_worst, self.drop_after = drop_worst, drop_after
        self.keep_share = 1.0
        self.metrics = TokenAccuracy(("caption",))

    def begin_step(self, step: int) -> None:
        """Start to drop the largest losses, which late in training are mostly wrong captions."""
        self.keep_share = 1.0 - self.drop_worst if step > self.drop_after else 1.0

    def counts(self, batch: CaptionBatch) -> dict[str, int]:
        """Hidden words that count: the loss is a mean over those of the whole update."""
        return {"caption": num_kept_words(int((batch.targets != IGNORE).sum()), self.keep_share)}

    def training_step(self, batch: CaptionBatch) -> StepOutput:
        """Smoothed divergence at hidden words."""
        hidden = batch.targets != IGNORE
        logits = self.model(batch.images, batch.token_ids, batch.padding, hidden)
        targets = batch.targets[hidden]
        total = smoothed_word_loss(
            logits, targets, smoothing=self.smoothing, keep_share=self.keep_share, reduction="sum"
        )
        loss = total / max(1, num_kept_words(len(targets), self.keep_share))
        logs = {"loss_caption": loss.detach(), "accuracy": share_found(logits.detach(), targets)}
        return StepOutput(loss, logs, {"caption": total})

    @torch.no_grad()
    def evaluation_step(self, batch: CaptionBatch) -> None:
        """Count hidden words that are found; captions themselves are scored after beam search."""
        hidden = batch.targets != IGNORE
        logits = self.model(batch.images, batch.token_ids, batch.padding, hidden)
        self.metrics.update("caption", logits.argmax(dim=1), batch.targets[hidden])
