"""Masked image modelling: the pretraining task of BEiT (section 2.3) and of BEiT v2 (section 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.errors import ConfigError
from imglish.metrics.token_accuracy import TokenAccuracy
from imglish.models.vit.pretraining import MaskedImageLogits, ViTForMaskedImageModeling
from imglish.models.vqkd.model import Vqkd
from imglish.structures.batches import MaskedImages
from imglish.tasks.base import StepOutput, Task

# Predictions of the last block, and of the way through the class token.
STREAMS = ("patches", "class_patches")


class MaskedImageModelingTask(Task):
    """Recover the visual tokens of hidden patches; with BEiT v2's aggregation, twice.

    Args:
        model: A ViT with its prediction heads.
        visual_tokenizer: Frozen; turns whole pictures into the visual tokens to predict. It is kept out of
            the checkpoint, as it never changes. Both see the same picture in [-1, 1]; the official BEiT v2
            gives its ViT the same one with ImageNet's mean and deviation.

    Raises:
        ConfigError: The tokenizer has other tokens, or another grid of them, than the model predicts.
    """

    metrics: TokenAccuracy

    def __init__(self, model: ViTForMaskedImageModeling, visual_tokenizer: Vqkd) -> None:
        super().__init__()
        _check_fit(model, visual_tokenizer)
        self.model = model
        # A module in a tuple is no part of the task: never trained, never saved.
        self._tokenizer = (visual_tokenizer.eval().requires_grad_(False),)
        self.metrics = TokenAccuracy(STREAMS if model.aggregation is not None else STREAMS[:1])

    def training_step(self, batch: MaskedImages) -> StepOutput:
        """Cross entropy at the hidden patches, summed over both ways where there are two."""
        target = self.targets(batch)
        predictions = _streams(self.model(batch.images, batch.corruption))
        losses = {name: _cross_entropy(logits, target) for name, logits in predictions.items()}
        logs = {f"loss_{name}": loss.detach() for name, loss in losses.items()}
        for name, logits in predictions.items():
            logs[f"accuracy_{name}"] = _accuracy(logits.detach(), target)
        return StepOutput(torch.stack(list(losses.values())).sum(), logs)

    @torch.no_grad()
    def evaluation_step(self, batch: MaskedImages) -> None:
        """Count right predictions at hidden patches, of each way."""
        target = self.targets(batch)
        for name, logits in _streams(self.model(batch.images, batch.corruption)).items():
            self.metrics.update(name, logits.argmax(dim=1), target)

    @torch.no_grad()
    def targets(self, batch: MaskedImages) -> Tensor:
        """Visual tokens of the hidden patches, int64 (M,), picture by picture and row by row."""
        tokenizer = self._tokenizer[0].to(batch.images.device)
        return tokenizer.encode(batch.images)[batch.corruption]


def _check_fit(model: ViTForMaskedImageModeling, tokenizer: Vqkd) -> None:
    ours, theirs = model.vit.config, tokenizer.config.encoder
    if (ours.image_size, ours.patch_size) != (theirs.image_size, theirs.patch_size):
        raise ConfigError(
            f"the tokenizer cuts pictures of {theirs.image_size} into patches of {theirs.patch_size} pixels, "
            f"the model those of {ours.image_size} into {ours.patch_size}; give both the same sizes"
        )
    predicted, tokens = model.token_head.out_features, tokenizer.config.codebook_size
    if predicted != tokens:
        raise ConfigError(
            f"the tokenizer has {tokens} visual tokens, the model predicts {predicted}; "
            f"build it with codebook_size={tokens}"
        )


def _streams(logits: MaskedImageLogits) -> dict[str, Tensor]:
    """Logits (M, V) by stream, of those that the model has."""
    return {name: each for name, each in zip(STREAMS, logits, strict=True) if each is not None}


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    if len(target) == 0:  # nothing may be hidden; keep the head in the graph for data parallelism
        return logits.sum() * 0.0
    return F.cross_entropy(logits.float(), target)


def _accuracy(logits: Tensor, target: Tensor) -> Tensor:
    return (logits.argmax(dim=1) == target).float().mean() if len(target) else logits.new_zeros(())
