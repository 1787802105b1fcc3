"""A tiny BEiT-3 for the tasks' tests, and the few lines that train a task on one batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from imglish.models.beit3.config import Beit3Config
from imglish.tasks.base import Task

CONFIG = Beit3Config(
    image_size=(32, 32), patch_size=16, vocab_size=30, max_text_tokens=8, width=32, depth=2, num_heads=4,
    feed_forward_width=64, init="scaled",
)  # fmt: skip
PAD, MASK = 1, 29


def pictures(batch: int) -> Tensor:
    return torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def words(batch: int, length: int = 6) -> Tensor:
    return torch.randint(4, MASK, (batch, length), generator=torch.Generator().manual_seed(2))


def no_padding(batch: int, length: int = 6) -> Tensor:
    return torch.zeros(batch, length, dtype=torch.bool)


def fit(task: Task, batch: Any, num_steps: int, lr: float = 3e-3) -> list[float]:
    """Train on one batch; the loss before each update."""
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=lr)
    task.train()
    losses = []
    for _ in range(num_steps):
        loss = task.training_step(batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        task.after_step()
        losses.append(loss.item())
    return losses


def scores(task: Task, batch: Any) -> dict[str, float]:
    """What the task's metrics say of one batch."""
    task.eval()
    task.metrics.reset()
    task.evaluation_step(batch)
    return task.metrics.compute()


def check_evaluation_leaves_the_model_alone(task: Task, batch: Any) -> None:
    """Evaluation collects no gradients and changes no weight and no statistic."""
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    scores(task, batch)
    assert all(parameter.grad is None for parameter in task.model.parameters())
    after = task.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def with_noise(model: torch.nn.Module) -> torch.nn.Module:
    """Leave nothing of a model at zero or one."""
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=g))
    return model
