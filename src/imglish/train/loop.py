"""The one training loop."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from imglish.errors import ConfigError, ImglishError
from imglish.train.checkpoint import Checkpoints
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig
from imglish.train.distributed import Ranks, any_rank, sum_over_ranks
from imglish.train.logging import RunLog, SkippedLog
from imglish.train.parallelize import ShardedModel, gradient_sync
from imglish.train.precision import autocast
from imglish.train.schedule import learning_rate
from imglish.train.state import TrainState


class NonFiniteLossError(ImglishError):
    """A loss was not a number, and the policy is to stop."""


class StepResult(Protocol):
    """What a task's training step returns."""

    loss: Tensor
    logs: dict[str, Tensor]


class TrainableTask(Protocol):
    """What the loop needs of a task: a model, and a training step on a batch."""

    model: nn.Module

    def train(self, mode: bool = True) -> Any:
        """Switch to training mode."""
        ...

    def training_step(self, batch: Any) -> Any:
        """Loss and logs of a batch; see `StepResult`."""
        ...

    def begin_step(self, step: int) -> None:
        """What precedes an update; ``step`` are done."""
        ...

    def after_step(self) -> None:
        """What follows an update."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """The settings that the loop reads."""

    train: TrainConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    global_batch_size: int


def train(
    task: TrainableTask,
    state: TrainState,
    batches: Iterator[Any],
    config: LoopConfig,
    *,
    ranks: Ranks,
    checkpoints: Checkpoints,
    log: RunLog | None,
    skipped: SkippedLog,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
) -> bool:
    """Train until ``num_steps`` updates are done.

    Args:
        task: Joins model, loss and batch.
        state: Where to start from; it is moved forward in place.
        batches: Loaded batches from micro step ``state.step * grad_accumulation`` on.
        config: Steps, rates, policies.
        ranks: This process among all.
        checkpoints: Where the state is saved.
        log: Of the main rank; None elsewhere.
        skipped: This rank's damaged samples; those of all ranks together are logged.
        evaluate: Scores the task now and then; its numbers are logged. The caller scores the end.

    Returns:
        True when all steps are done, False when a signal asked to leave; the state is saved either way.

    Raises:
        ConfigError: The model is sharded.
        NonFiniteLossError: A loss was no number on some rank and the policy is to stop.
    """
    if isinstance(task.model, ShardedModel):
        raise ConfigError(
            "the model is sharded, but checkpoints hold whole models only; use the strategy ddp"
        )
    settings = config.train
    optimizer, parameters = state.optimizer, list(state.model.parameters())
    with _leave_on_signal() as leave:
        while state.step < settings.num_steps:
            task.train()
            task.begin_step(state.step)
            rate = learning_rate(state.step, settings.num_steps, config.optimizer, config.schedule)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["lr_scale"]

            logs: dict[str, Tensor] = {}
            finite = torch.ones((), device=ranks.device)
            for micro_step in range(settings.grad_accumulation):
                loaded = next(batches)
                batch = loaded.batch.to(ranks.device, non_blocking=True)
                # Gradients are exchanged once an update, and averaged over ranks by the wrapper alone.
                with gradient_sync(task.model, last=micro_step == settings.grad_accumulation - 1):
                    with autocast(settings.precision, ranks.device):
                        out = task.training_step(batch)
                    (out.loss / settings.grad_accumulation).backward()
                finite = finite * torch.isfinite(out.loss.detach())
                logs = out.logs
                skipped.add(state.step + 1, loaded.skipped)

            # All ranks must agree before any of them stops, or the others would wait for ever.
            if any_rank(not bool(finite), ranks):
                _refuse(state.step, settings)
                optimizer.zero_grad(set_to_none=True)
                state.step += 1
                continue
            norm = nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm or math.inf)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            task.after_step()
            if state.ema is not None:
                state.ema.update(state.model)
            state.step += 1

            done = state.step == settings.num_steps
            if log is not None:
                log.advance(state.step)
            if done or state.step % settings.log_every == 0:
                num_skipped = sum_over_ranks(skipped.count, ranks)  # every rank must ask
                if log is not None:
                    # The only place where numbers leave the device.
                    values = {name: float(value) for name, value in logs.items()}
                    values |= {"grad_norm": float(norm), "lr": rate}
                    values |= {"num_skipped": num_skipped} if num_skipped else {}
                    log.scalars(state.step, values, samples_per_step=config.global_batch_size)
            if evaluate is not None and not done and _every(settings.evaluate_every, state.step):
                scores = evaluate()
                if log is not None:
                    log.scalars(state.step, scores)
            leaving = any_rank(leave.asked, ranks)
            if done or leaving or _every(settings.save_every, state.step):
                checkpoints.save(state, ranks)
            if leaving and not done:
                return False
    return True


def _every(interval: int, step: int) -> bool:
    return interval > 0 and step % interval == 0


def _refuse(step: int, settings: TrainConfig) -> None:
    if settings.on_nonfinite == "stop":
        raise NonFiniteLossError(
            f"the loss of step {step + 1} is not a number. Lower optimizer.lr, clip by train.max_grad_norm, "
            "or set train.on_nonfinite=skip to leave such steps out; the last checkpoint is kept"
        )


@dataclass(slots=True)
class _Leave:
    asked: bool = False


@contextmanager
def _leave_on_signal() -> Iterator[_Leave]:
    """Turn SIGTERM and SIGUSR1 into a wish to save and leave, and put the old handlers back afterwards."""
    leave = _Leave()

    def ask(number: int, frame: FrameType | None) -> None:
        leave.asked = True

    try:
        old = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGUSR1)}
    except ValueError:  # not the main thread: signals stay with whoever owns it
        old = {}
    try:
        yield leave
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
