"""Picture classification as the paper does it: the dual encoder finds the name of the class (section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from imglish.losses.classification import class_loss
from imglish.metrics.accuracy import ClassAccuracy
from imglish.models.beit3.heads import Beit3ForRetrieval
from imglish.structures.batches import ClassificationBatch
from imglish.tasks.base import StepOutput, Task


class ClassNamesTask(Task):
    """Find the name of what a picture shows among the names of all classes.

    The text side embeds the names, the vision side the picture, and their cosines are the logits. In training
    a batch's own classes and, up to ``max_names``, further ones drawn at random compete; scoring precomputes
    the names of all classes once.

    Args:
        model: Dual encoder.
        metrics: Accuracy of the best and of the best five classes.
        token_ids: Names of all classes in the order of their labels, int64 (num_classes, T).
        padding: bool (num_classes, T), True where padded.
        smoothing: Label smoothing over the names that compete.
        max_names: Names that compete in a training step.
    """

    metrics: ClassAccuracy

    def __init__(
        self,
        model: Beit3ForRetrieval,
        metrics: ClassAccuracy,
        *,
        token_ids: Tensor,
        padding: Tensor,
        smoothing: float = 0.1,
        max_names: int = 1024,
    ) -> None:
        super().__init__()
        self.model, self.metrics = model, metrics
        self.smoothing, self.max_names = smoothing, max_names
        self.register_buffer("token_ids", token_ids, persistent=False)
        self.register_buffer("padding", padding, persistent=False)
        self.token_ids: Tensor
        self.padding: Tensor
        self._names: Tensor | None = None  # unit vectors (num_classes, C) while scoring

    def training_step(self, batch: ClassificationBatch) -> StepOutput:
        """Smoothed cross entropy among the names that compete."""
        names, labels = self._draw_names(batch.labels)
        vision, text, scale = self.model(batch.images, self.token_ids[names], self.padding[names])
        logits = scale * vision @ text.T
        loss = class_loss(logits, labels, smoothing=self.smoothing)
        accuracy = (logits.detach().argmax(dim=1) == labels).float().mean()
        return StepOutput(loss, {"loss": loss.detach(), "accuracy": accuracy, "logit_scale": scale.detach()})

    @torch.no_grad()
    def evaluation_step(self, batch: ClassificationBatch) -> None:
        """Score the names of all classes for each picture."""
        if self._names is None:
            chunks = zip(self.token_ids.split(1024), self.padding.split(1024), strict=True)
            self._names = torch.cat([self._dual_encoder().encode_texts(*chunk) for chunk in chunks])
        logits = self._dual_encoder().encode_images(batch.images) @ self._names.T
        self.metrics.update(logits, batch.labels, batch.sample_ids)

    def train(self, mode: bool = True) -> ClassNamesTask:
        """Switch between training and scoring; what was precomputed for scoring is forgotten."""
        self._names = None
        super().train(mode)
        return self

    def _draw_names(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The classes that compete, int64 (K,), and where among them each label stands, int64 (B,)."""
        num_classes = len(self.token_ids)
        if num_classes <= self.max_names:
            return torch.arange(num_classes, device=labels.device), labels
        own, places = labels.unique(return_inverse=True)
        others = torch.ones(num_classes, dtype=torch.bool, device=labels.device)
        others[own] = False
        rest = others.nonzero().squeeze(1)
        drawn = torch.randperm(len(rest), device=labels.device)[: max(0, self.max_names - len(own))]
        return torch.cat([own, rest[drawn]]), places

    def _dual_encoder(self) -> Beit3ForRetrieval:
        model = getattr(self.model, "module", self.model)  # a parallel wrapper offers the forward pass only
        assert isinstance(model, Beit3ForRetrieval)
        return model
