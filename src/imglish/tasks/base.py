"""What the loop knows of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from imglish.metrics.base import Metric


class StepOutput(NamedTuple):
    """What a training step finds.

    Args:
        loss: Scalar to go down; that of this batch alone.
        logs: Named scalars for the log.
        sums: Of a task that counts (see `Task.counts`): its terms summed over what is counted, by name. The
            loop divides them by the counts of the whole update and goes down their sum instead of ``loss``.
        counts: Of terms of ``sums`` that are means over what is known after prediction only: how much this
            batch has of it, without gradient. The loop divides them by the mean over ranks, at least 1, of
            each micro step for itself.
    """

    loss: Tensor
    logs: dict[str, Tensor]
    sums: dict[str, Tensor] | None = None
    counts: dict[str, Tensor] | None = None


class Task(nn.Module):
    """Joins model, loss, metric and batch.

    A task does not move data, step optimisers, talk to ranks or print. ``model`` is what data parallelism
    wraps, so a training step must call ``self.model(...)``.
    """

    model: nn.Module
    metrics: Metric

    def counts(self, batch: Any) -> Mapping[str, float] | None:
        """Over how many predictions each term of the loss is a mean, by name, from the batch alone.

        A mean over hidden tokens must be one over those of all ranks and micro steps of an update, not a
        mean of means. Where predictions weigh more or less, it is the sum of their weights. None, as for most
        tasks, where every rank's batch counts alike. Terms that are not named here have their count in
        `StepOutput`.
        """
        return None

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
