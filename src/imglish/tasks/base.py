"""What the loop knows of a task."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from imglish.metrics.base import Metric


class StepOutput(NamedTuple):
    """A scalar loss to go down, and named scalars for the log."""

    loss: Tensor
    logs: dict[str, Tensor]


class Task(nn.Module):
    """Joins model, loss, metric and batch.

    A task does not move data, step optimisers, talk to ranks or print. ``model`` is what data parallelism
    wraps, so a training step must call ``self.model(...)``.
    """

    model: nn.Module
    metrics: Metric

    def training_step(self, batch: Any) -> StepOutput:
        """Loss and logs of a batch."""
        raise NotImplementedError(f"{type(self).__name__} defines no training step")

    def evaluation_step(self, batch: Any) -> None:
        """Put a batch into ``metrics``."""
        raise NotImplementedError(f"{type(self).__name__} defines no evaluation step")

    def begin_step(self, step: int) -> None:
        """Be told how many updates are done before the next one; nothing for most tasks."""

    def after_step(self) -> None:
        """What follows an optimiser update; nothing for most tasks."""
