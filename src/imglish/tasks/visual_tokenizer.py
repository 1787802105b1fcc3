"""Training a visual tokenizer by vector-quantised knowledge distillation (BEiT v2, section 2.2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.losses.distillation import commitment, cosine_distance
from imglish.metrics.codebook import CodebookUsage, perplexity
from imglish.models.vqkd.model import Vqkd, VqkdOutput
from imglish.models.vqkd.teachers import FeatureTeacher
from imglish.nn.quantizer import EmaQuantizer
from imglish.structures.batches import ImageBatch
from imglish.tasks.base import StepOutput, Task


class VisualTokenizerTask(Task):
    """Rebuild a frozen teacher's features from discrete tokens.

    Args:
        model: The tokenizer.
        teacher: Frozen; its patch grid is the tokenizer's.
        beta: Weight of the commitment term.
    """

    metrics: CodebookUsage

    def __init__(self, model: Vqkd, teacher: FeatureTeacher, *, beta: float = 1.0) -> None:
        super().__init__()
        self.model, self.beta = model, beta
        self._teacher = (teacher,)  # a module in a tuple is no part of the task: never in training mode
        self.quantizer: EmaQuantizer = model.quantizer
        self.metrics = CodebookUsage(model.config.codebook_size)
        self._seen: list[tuple[Tensor, Tensor]] = []  # in the micro steps since the last update

    def training_step(self, batch: ImageBatch) -> StepOutput:
        """Cosine distance plus commitment; the first batch places the codes by k-means."""
        if not bool(self.quantizer.started):
            with torch.no_grad():
                self.quantizer.start(self.model(batch.images).quantized.features)
        out: VqkdOutput = self.model(batch.images)
        distance = cosine_distance(out.reconstruction, self._target(batch.images))
        codebook, token_ids = self.quantizer.codebook, out.quantized.token_ids
        committed = commitment(out.quantized.features, codebook[token_ids])
        loss = distance + self.beta * committed
        self._seen.append((out.quantized.features.detach(), out.quantized.token_ids))
        counts = torch.bincount(token_ids.flatten(), minlength=len(codebook)).float()
        logs = {
            "loss": loss.detach(),
            "cosine_distance": distance.detach(),
            "commitment": committed.detach(),
            "codes_in_batch": (counts > 0).float().mean(),
            "perplexity_in_batch": perplexity(counts),
        }
        return StepOutput(loss, logs)

    def begin_step(self, step: int) -> None:
        """Forget the features of an update that was refused."""
        self._seen.clear()

    def after_step(self) -> None:
        """Move the codes by the features of all micro steps; the loss has used those from before."""
        if self._seen:
            features, token_ids = map(torch.cat, zip(*self._seen, strict=True))
            self.quantizer.update(features, token_ids)
            self._seen.clear()

    @torch.no_grad()
    def evaluation_step(self, batch: ImageBatch) -> None:
        """Count tokens and measure how well they rebuild the teacher."""
        out: VqkdOutput = self.model(batch.images)
        cosine = F.cosine_similarity(out.reconstruction, self._target(batch.images), dim=-1)
        self.metrics.update(out.quantized.token_ids, cosine)

    @torch.no_grad()
    def _target(self, images: Tensor) -> Tensor:
        return self._teacher[0](images)
