"""Masked data modelling: the one pretraining task of BEiT-3 (section 2.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from imglish.losses.hidden_tokens import summed_cross_entropy
from imglish.metrics.token_accuracy import TokenAccuracy, share_found
from imglish.models.beit3.heads import Beit3ForMaskedDataModeling, MaskedLogits
from imglish.models.vqkd.frozen import FrozenTokenizer
from imglish.models.vqkd.model import Vqkd
from imglish.structures.batches import IGNORE, MaskedBatch, MaskedImages, MaskedPairs, buckets_of
from imglish.tasks.base import StepOutput, Task

STREAMS = ("image", "text", "pair_image", "pair_text", "pair_answer")


class MaskedTargets(NamedTuple):
    """What stands at the hidden positions, int64 (M,) each; the order of `MaskedLogits`."""

    image: Tensor
    text: Tensor
    pair_image: Tensor
    pair_text: Tensor
    pair_answer: Tensor


class MaskedDataModelingTask(Task):
    """Recover hidden visual tokens and hidden words of pictures, texts and pairs.

    Args:
        model: The multiway model with its two prediction heads.
        visual_tokenizer: Frozen; turns pictures into the visual tokens to predict. It is kept out of the
            checkpoint, as it never changes. Where its patches have another side than the model's, its view of
            the pictures is resized to the model's grid. A batch that brings stored tokens does not need it.
    """

    metrics: TokenAccuracy

    def __init__(self, model: Beit3ForMaskedDataModeling, visual_tokenizer: Vqkd) -> None:
        super().__init__()
        self.model = model
        self.visual_tokenizer = FrozenTokenizer(visual_tokenizer, model.encoder.config.grid_size)
        self.metrics = TokenAccuracy(STREAMS)

    def counts(self, batch: MaskedBatch) -> dict[str, int]:
        """Hidden positions of each stream: its loss is a mean over those of the whole update."""
        images, texts, pairs = batch.images, batch.texts, batch.pairs
        return {
            "image": int(images.corruption.sum()),
            "text": int((texts.targets != IGNORE).sum()),
            "pair_image": int(pairs.corruption.sum()),
            "pair_text": int((pairs.targets != IGNORE).sum()),
            "pair_answer": 0 if pairs.answers is None else int((pairs.answers != IGNORE).sum()),
        }

    def training_step(self, batch: MaskedBatch) -> StepOutput:
        """Sum of the cross entropies of both modalities in all three streams, before one ``backward``."""
        targets = self.targets(batch)
        logits: MaskedLogits = self.model(batch)
        sums = {
            name: summed_cross_entropy(predicted, target)
            for name, predicted, target in zip(STREAMS, logits, targets, strict=True)
        }
        losses = {
            name: total / max(1, len(target))
            for (name, total), target in zip(sums.items(), targets, strict=True)
        }
        logs = {f"loss_{name}": loss.detach() for name, loss in losses.items()}
        for name, predicted, target in zip(STREAMS, logits, targets, strict=True):
            logs[f"accuracy_{name}"] = share_found(predicted.detach(), target)
        logs["wasted_tokens"] = logs["loss_image"].new_full((), wasted_tokens(batch))
        return StepOutput(torch.stack(list(losses.values())).sum(), logs, sums)

    @torch.no_grad()
    def evaluation_step(self, batch: MaskedBatch) -> None:
        """Count right predictions at hidden positions, by stream."""
        logits: MaskedLogits = self.model(batch)
        for name, predicted, target in zip(STREAMS, logits, self.targets(batch), strict=True):
            self.metrics.update(name, predicted.argmax(dim=1), target)

    @torch.no_grad()
    def targets(self, batch: MaskedBatch) -> MaskedTargets:
        """Visual tokens and words at the hidden positions."""
        images, pairs, answers = batch.images, batch.pairs, batch.pairs.answers
        image, pair_image = self._tokens(images), self._tokens(pairs)
        return MaskedTargets(
            image=image[images.corruption],
            text=batch.texts.targets[batch.texts.targets != IGNORE],
            pair_image=pair_image[pairs.corruption],
            pair_text=pairs.targets[pairs.targets != IGNORE],
            pair_answer=pairs.targets.new_empty(0) if answers is None else answers[answers != IGNORE],
        )

    def _tokens(self, part: MaskedImages | MaskedPairs) -> Tensor:
        if len(part.images) == 0:
            return part.corruption.long()
        return self.visual_tokenizer(part.images) if part.tokens is None else part.tokens


def wasted_tokens(batch: MaskedBatch) -> float:
    """Share of the tokens of a batch that are padding, in [0, 1).

    Counted are all that the encoder reads: vision tokens of pictures and of pairs, class tokens included, and
    the texts as they are padded in their buckets. 0 for an empty batch.
    """
    buckets = [*buckets_of(batch.texts), *buckets_of(batch.pairs)]
    padded = sum(bucket.rows * bucket.length for bucket in buckets)
    vision = sum(
        len(hidden) * (1 + hidden.shape[1]) for hidden in (batch.images.corruption, batch.pairs.corruption)
    )
    return (padded - sum(bucket.tokens for bucket in buckets)) / max(1, padded + vision)
