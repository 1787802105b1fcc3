"""Masked data modelling: the one pretraining task of BEiT-3 (section 2.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.metrics.token_accuracy import TokenAccuracy
from imglish.models.beit3.heads import Beit3ForMaskedDataModeling, MaskedLogits
from imglish.models.vqkd.model import Vqkd
from imglish.structures.batches import IGNORE, MaskedBatch, MaskedImages, MaskedPairs
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
            name: _summed_cross_entropy(predicted, target)
            for name, predicted, target in zip(STREAMS, logits, targets, strict=True)
        }
        losses = {
            name: total / max(1, len(target))
            for (name, total), target in zip(sums.items(), targets, strict=True)
        }
        logs = {f"loss_{name}": loss.detach() for name, loss in losses.items()}
        for name, predicted, target in zip(STREAMS, logits, targets, strict=True):
            logs[f"accuracy_{name}"] = _accuracy(predicted.detach(), target)
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
        return self.visual_tokenizer(part.images) if part.tokens is None else part.tokens


class FrozenTokenizer:
    """A visual tokenizer outside the module tree: not trained, not saved, always in evaluation mode.

    Args:
        tokenizer: The tokenizer.
        grid_size: (rows, columns) of tokens that it shall give.
    """

    def __init__(self, tokenizer: Vqkd, grid_size: tuple[int, int]) -> None:
        self.tokenizer: nn.Module = tokenizer.eval().requires_grad_(False)
        self.grid_size = grid_size

    def __call__(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) to token ids int64 (B, N); follows the pictures' device."""
        tokenizer = self.tokenizer.to(images.device)
        tokens: Tensor = tokenizer.encode(images, self.grid_size)  # type: ignore[operator]
        return tokens.flatten(1)


def _summed_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    if len(target) == 0:  # a stream may hide nothing; keep its head in the graph for data parallelism
        return logits.sum() * 0.0
    # Float64 stays as it is; bf16 is too coarse for a sum.
    return F.cross_entropy(
        logits.to(torch.promote_types(logits.dtype, torch.float32)), target, reduction="sum"
    )


def _accuracy(logits: Tensor, target: Tensor) -> Tensor:
    return (logits.argmax(dim=1) == target).float().mean() if len(target) else logits.new_zeros(())
