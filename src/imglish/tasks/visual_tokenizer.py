"""Training a visual tokenizer by vector-quantised knowledge distillation (BEiT v2, section 2.2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.losses.distillation import commitment, cosine_distance
from imglish.metrics.codebook import CodebookUsage, perplexity
from imglish.models.vqkd.model import Vqkd, VqkdOutput
from imglish.models.vqkd.teachers import FeatureTeacher
from imglish.nn.quantizer import EmaQuantizer, Quantized
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
        self._latest: Quantized | None = None

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
        self._latest = out.quantized
        counts = torch.bincount(token_ids.flatten(), minlength=len(codebook)).float()
        logs = {
            "loss": loss.detach(),
            "cosine_distance": distance.detach(),
            "commitment": committed.detach(),
            "codes_in_batch": (counts > 0).float().mean(),
            "perplexity_in_batch": perplexity(counts),
        }
        return StepOutput(loss, logs)

    def after_step(self) -> None:
        """Move the codes by the last micro step's features; the loss has used those from before."""
        if self._latest is not None:
            self.quantizer.update(self._latest.features, self._latest.token_ids)
            self._latest = None

    @torch.no_grad()
    def evaluation_step(self, batch: ImageBatch) -> None:
        """Count tokens and measure how well they rebuild the teacher."""
        out: VqkdOutput = self.model(batch.images)
        cosine = F.cosine_similarity(out.reconstruction, self._target(batch.images), dim=-1)
        self.metrics.update(out.quantized.token_ids, cosine)

    @torch.no_grad()
    def _target(self, images: Tensor) -> Tensor:
        return self._teacher[0](images)
