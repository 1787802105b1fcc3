"""Masked data modelling: the one pretraining task of BEiT-3 (section 2.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.metrics.token_accuracy import TokenAccuracy
from imglish.models.beit3.heads import Beit3ForMaskedDataModeling, MaskedLogits
from imglish.models.vqkd.model import Vqkd
from imglish.structures.batches import IGNORE, MaskedBatch
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
            checkpoint, as it never changes.
    """

    metrics: TokenAccuracy

    def __init__(self, model: Beit3ForMaskedDataModeling, visual_tokenizer: Vqkd) -> None:
        super().__init__()
        self.model = model
        self.visual_tokenizer = FrozenTokenizer(visual_tokenizer)
        self.metrics = TokenAccuracy(STREAMS)

    def training_step(self, batch: MaskedBatch) -> StepOutput:
        """Sum of the cross entropies of both modalities in all three streams, before one ``backward``."""
        targets = self.targets(batch)
        logits: MaskedLogits = self.model(batch)
        losses = {
            name: _cross_entropy(predicted, target)
            for name, predicted, target in zip(STREAMS, logits, targets, strict=True)
        }
        logs = {f"loss_{name}": loss.detach() for name, loss in losses.items()}
        for name, predicted, target in zip(STREAMS, logits, targets, strict=True):
            logs[f"accuracy_{name}"] = _accuracy(predicted.detach(), target)
        return StepOutput(torch.stack(list(losses.values())).sum(), logs)

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
        tokens = self.visual_tokenizer(torch.cat([images.images, pairs.images]))
        image, pair_image = tokens.split([len(images.images), len(pairs.images)])
        return MaskedTargets(
            image=image[images.corruption],
            text=batch.texts.targets[batch.texts.targets != IGNORE],
            pair_image=pair_image[pairs.corruption],
            pair_text=pairs.targets[pairs.targets != IGNORE],
            pair_answer=pairs.targets.new_empty(0) if answers is None else answers[answers != IGNORE],
        )


class FrozenTokenizer:
    """A visual tokenizer outside the module tree: not trained, not saved, always in evaluation mode."""

    def __init__(self, tokenizer: Vqkd) -> None:
        self.tokenizer: nn.Module = tokenizer.eval().requires_grad_(False)

    def __call__(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) to token ids int64 (B, N); follows the pictures' device."""
        tokenizer = self.tokenizer.to(images.device)
        tokens: Tensor = tokenizer.encode(images)  # type: ignore[operator]
        return tokens.flatten(1)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    if len(target) == 0:  # a stream may hide nothing; keep its head in the graph for data parallelism
        return logits.sum() * 0.0
    return F.cross_entropy(logits.float(), target)


def _accuracy(logits: Tensor, target: Tensor) -> Tensor:
    return (logits.argmax(dim=1) == target).float().mean() if len(target) else logits.new_zeros(())
