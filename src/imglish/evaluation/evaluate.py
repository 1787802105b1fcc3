"""The one evaluation loop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from imglish.metrics.base import sum_over_ranks
from imglish.tasks.base import Task


@torch.no_grad()
def evaluate(task: Task, batches: Iterable[Any], device: torch.device) -> dict[str, float]:
    """Score a task.

    Args:
        task: Its metrics are reset first; training mode is put back afterwards.
        batches: Loaded batches of this rank; all ranks together hold every sample once.
        device: Where the model is.

    Returns:
        Named numbers, the same on all ranks; ``num_skipped`` where damaged samples were left out.
    """
    was_training = task.training
    task.eval()
    task.metrics.reset()
    num_skipped = 0
    for loaded in batches:
        task.evaluation_step(loaded.batch.to(device))
        num_skipped += len(loaded.skipped)
    task.metrics.reduce()
    all_skipped = float(sum_over_ranks(torch.tensor(num_skipped)))
    task.train(was_training)
    scores = task.metrics.compute()
    return scores | {"num_skipped": all_skipped} if all_skipped else scores
