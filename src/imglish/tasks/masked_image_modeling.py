"""Masked image modelling: the pretraining task of BEiT (section 2.3) and of BEiT v2 (section 2.3)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from imglish.data.transforms.imagenet import IMAGENET_MEAN, IMAGENET_STD
from imglish.errors import ConfigError
from imglish.losses.hidden_tokens import summed_cross_entropy
from imglish.metrics.token_accuracy import TokenAccuracy, share_found
from imglish.models.vit.pretraining import MaskedImageLogits, ViTForMaskedImageModeling
from imglish.models.vqkd.frozen import FrozenTokenizer
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
            the checkpoint, as it never changes. It sees pictures in [-1, 1].
        pictures: What the model sees: the same (``model``), or the same with ImageNet's mean and deviation
            (``imagenet``), as the official BEiT v2 does.

    Raises:
        ConfigError: The tokenizer has other tokens, or another grid of them, than the model predicts.
    """

    metrics: TokenAccuracy

    def __init__(
        self,
        model: ViTForMaskedImageModeling,
        visual_tokenizer: Vqkd,
        *,
        pictures: Literal["model", "imagenet"] = "model",
    ) -> None:
        super().__init__()
        _check_fit(model, visual_tokenizer)
        self.model, self.pictures = model, pictures
        self.visual_tokenizer = FrozenTokenizer(visual_tokenizer, model.vit.config.grid_size)
        self._names = STREAMS if model.aggregation is not None else STREAMS[:1]
        self.metrics = TokenAccuracy(self._names)

    def counts(self, batch: MaskedImages) -> dict[str, int]:
        """Hidden patches, which each way's loss is a mean over: BEiT's masks differ in how many they hide."""
        return dict.fromkeys(self._names, int(batch.corruption.sum()))

    def training_step(self, batch: MaskedImages) -> StepOutput:
        """Cross entropy at the hidden patches, summed over both ways where there are two."""
        target = self.targets(batch)
        predictions = self._predictions(batch)
        sums = {name: summed_cross_entropy(logits, target) for name, logits in predictions.items()}
        losses = {name: total / max(1, len(target)) for name, total in sums.items()}
        logs = {f"loss_{name}": loss.detach() for name, loss in losses.items()}
        for name, logits in predictions.items():
            logs[f"accuracy_{name}"] = share_found(logits.detach(), target)
        return StepOutput(torch.stack(list(losses.values())).sum(), logs, sums)

    @torch.no_grad()
    def evaluation_step(self, batch: MaskedImages) -> None:
        """Count right predictions at hidden patches, of each way."""
        target = self.targets(batch)
        for name, logits in self._predictions(batch).items():
            self.metrics.update(name, logits.argmax(dim=1), target)

    @torch.no_grad()
    def targets(self, batch: MaskedImages) -> Tensor:
        """Visual tokens of the hidden patches, int64 (M,), picture by picture and row by row."""
        return self.visual_tokenizer(batch.images)[batch.corruption]

    def _predictions(self, batch: MaskedImages) -> dict[str, Tensor]:
        """Logits (M, V) by stream."""
        images = batch.images if self.pictures == "model" else _in_imagenet_range(batch.images)
        logits: MaskedImageLogits = self.model(images, batch.corruption)
        return {name: each for name, each in zip(STREAMS, logits, strict=True) if each is not None}


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


def _in_imagenet_range(images: Tensor) -> Tensor:
    """Map pictures (B, 3, H, W) in [-1, 1] to ImageNet's mean and deviation."""
    mean = images.new_tensor(IMAGENET_MEAN).view(3, 1, 1)
    std = images.new_tensor(IMAGENET_STD).view(3, 1, 1)
    return ((images + 1) / 2 - mean) / std
