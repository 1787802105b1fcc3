"""The one training loop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from imglish.errors import ImglishError
from imglish.train.checkpoint import Checkpoints
from imglish.train.config import OptimizerConfig, ScheduleConfig, TrainConfig
from imglish.train.distributed import Ranks, add_over_ranks, any_rank, mean_over_ranks, sum_over_ranks
from imglish.train.logging import RunLog, SkippedLog
from imglish.train.parallelize import clip_gradients, gradient_sync
from imglish.train.precision import autocast
from imglish.train.schedule import learning_rate
from imglish.train.state import TrainState

# What cluster managers send some time before they kill: SIGUSR2 is submitit's.
_LEAVING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class NonFiniteLossError(ImglishError):
    """A loss was not a number, and the policy is to stop."""


class StepResult(Protocol):
    """What a task's training step returns; ``sums`` and ``counts`` where the task counts."""

    loss: Tensor
    logs: dict[str, Tensor]
    sums: dict[str, Tensor] | None
    counts: dict[str, Tensor] | None


class TrainableTask(Protocol):
    """What the loop needs of a task: a model, and a training step on a batch."""

    model: nn.Module

    def train(self, mode: bool = True) -> Any:
        """Switch to training mode."""
        ...

    def counts(self, batch: Any) -> Mapping[str, float] | None:
        """Over how many predictions each term of the loss is a mean; None where batches count alike."""
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
        log: Of the main rank; None elsewhere. ``waiting`` in it is the share of the time since its last line
            that the main rank waited for batches.
        skipped: This rank's damaged samples; those of all ranks together are logged.
        evaluate: Scores the task now and then; its numbers are logged. The caller scores the end.

    Returns:
        True when all steps are done, False when a signal asked to leave; the state is saved either way.

    Raises:
        CheckpointError: The state could not be saved at the end, or when a signal asked to leave.
        NonFiniteLossError: A loss was no number on some rank and the policy is to stop.
    """
    settings = config.train
    optimizer, parameters = state.optimizer, list(state.model.parameters())
    batches = waiting = _Waiting(batches)
    with _leave_on_signal() as leave, checkpoints:
        while state.step < settings.num_steps:
            task.train()
            task.begin_step(state.step)
            rate = learning_rate(state.step, settings.num_steps, config.optimizer, config.schedule)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["lr_scale"]

            micro_batches = [next(batches) for _ in range(settings.grad_accumulation)]
            for loaded in micro_batches:
                skipped.add(state.step + 1, loaded.skipped)
            found = _gradients(task, [loaded.batch for loaded in micro_batches], settings, ranks)

            norm: Tensor | None = None
            # All ranks must agree before any of them stops, or the others would wait for ever.
            if any_rank(not found.finite, ranks):
                _refuse(state.step, settings)
            else:
                norm = clip_gradients(parameters, settings.max_grad_norm)
                optimizer.step()
                task.after_step()
                if state.ema is not None:
                    state.ema.update(state.model)
            optimizer.zero_grad(set_to_none=True)
            state.step += 1

            done = state.step == settings.num_steps
            if log is not None:
                log.advance(state.step)
            if norm is not None and (done or state.step % settings.log_every == 0):
                # The only place where numbers leave the device. Every rank must ask.
                values, num_skipped = found.scalars(ranks), sum_over_ranks(skipped.count, ranks)
                if log is not None:
                    values |= {"grad_norm": float(norm), "lr": rate, "waiting": waiting.share()}
                    values |= {"num_skipped": num_skipped} if num_skipped else {}
                    log.scalars(state.step, values, samples_per_step=config.global_batch_size)
            if evaluate is not None and not done and _every(settings.evaluate_every, state.step):
                scores = evaluate()
                if log is not None:
                    log.scalars(state.step, scores)
            leaving = any_rank(leave.asked, ranks)
            if done or leaving or _every(settings.save_every, state.step):
                checkpoints.save(state, ranks, needed=done or leaving)
            if leaving and not done:
                return False
    return True


@dataclass(frozen=True, slots=True)
class _Gradients:
    """What the micro steps of an update found, besides gradients.

    Args:
        finite: True where no loss of this rank was infinite or no number.
        logs: Of each micro step.
        sums: Of each counted term, over the micro steps of this rank.
        counts: What these sums, added over ranks, are divided by; empty where the task counts nothing.
    """

    finite: bool
    logs: list[dict[str, Tensor]]
    sums: dict[str, Tensor]
    counts: dict[str, float]

    def scalars(self, ranks: Ranks) -> dict[str, float]:
        """Means over ranks and micro steps; counted losses over all that was counted. Every rank asks."""
        names = list(self.logs[0])
        means = [torch.stack([logs[name].double() for logs in self.logs]).mean() for name in names]
        here = torch.stack([*means, *(total.double() for total in self.sums.values())]).cpu()
        added = add_over_ranks(here, ranks).tolist()
        found = {name: value / ranks.world_size for name, value in zip(names, added, strict=False)}
        for name, value in zip(self.sums, added[len(names) :], strict=True):
            found[f"loss_{name}"] = value / max(1, self.counts[name])
        return found


def _gradients(
    task: TrainableTask, batches: Sequence[Any], settings: TrainConfig, ranks: Ranks
) -> _Gradients:
    """Go backward through all micro steps of an update; gradients are exchanged once, with the last."""
    counts = _count(task, batches, ranks)
    # Wrappers average gradients over ranks, and the loop over micro steps: a sum divided by this share of
    # the count becomes the mean over all that is counted in the update.
    shares = {name: max(1, count) / (ranks.world_size * len(batches)) for name, count in counts.items()}
    finite = torch.ones((), device=ranks.device)
    logs: list[dict[str, Tensor]] = []
    sums: dict[str, Tensor] = {}
    for number, loaded in enumerate(batches, start=1):
        batch = loaded.to(ranks.device, non_blocking=True)
        with gradient_sync(task.model, last=number == len(batches)):
            with autocast(settings.precision, ranks.device):
                out: StepResult = task.training_step(batch)
            loss = out.loss
            if shares or out.counts:
                assert out.sums is not None, "a task that counts must give the sums of what it counted"
                terms = {name: out.sums[name] / share for name, share in shares.items()}
                for name, count in (out.counts or {}).items():
                    # The official code, too, takes at least 1 on each rank.
                    terms[name] = out.sums[name] / mean_over_ranks(count, ranks).clamp(min=1)
                    counts[name] = ranks.world_size * len(batches)
                loss = torch.stack(list(terms.values())).sum()
                for name, term in terms.items():
                    total = (out.sums[name] if name in shares else term).detach()
                    sums[name] = sums[name] + total if name in sums else total
            (loss / len(batches)).backward()
        finite = finite * torch.isfinite(loss.detach())
        logs.append(out.logs)
    return _Gradients(bool(finite), logs, sums, counts)


def _count(task: TrainableTask, batches: Sequence[Any], ranks: Ranks) -> dict[str, float]:
    """What the terms of an update's loss are means over, on all ranks together; empty if nothing counts."""
    found = [counts for batch in batches if (counts := task.counts(batch)) is not None]
    if not found:
        return {}
    names = list(found[0])
    here = torch.tensor([sum(counts[name] for counts in found) for name in names], dtype=torch.float64)
    return dict(zip(names, add_over_ranks(here, ranks).tolist(), strict=True))


def _every(interval: int, step: int) -> bool:
    return interval > 0 and step % interval == 0


def _refuse(step: int, settings: TrainConfig) -> None:
    if settings.on_nonfinite == "stop":
        raise NonFiniteLossError(
            f"the loss of step {step + 1} is not a number. Lower optimizer.lr, clip by train.max_grad_norm, "
            "or set train.on_nonfinite=skip to leave such steps out; the last checkpoint is kept"
        )


class _Waiting:
    """Batches, and how long they are waited for.

    Args:
        batches: Made elsewhere, or when they are asked for.
    """

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches, self._waited, self._since = batches, 0.0, time.perf_counter()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        begun = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self._waited += time.perf_counter() - begun

    def share(self) -> float:
        """Share of the time since the last call that went by until batches were there, in [0, 1]."""
        now = time.perf_counter()
        waited, passed = self._waited, now - self._since
        self._waited, self._since = 0.0, now
        return waited / max(passed, 1e-9)


@dataclass(slots=True)
class _Leave:
    asked: bool = False


@contextmanager
def _leave_on_signal() -> Iterator[_Leave]:
    """Turn _LEAVING signals into a wish to save and leave, and put the old handlers back afterwards."""
    leave = _Leave()

    def ask(number: int, frame: FrameType | None) -> None:
        leave.asked = True

    try:
        old = {number: signal.signal(number, ask) for number in _LEAVING}
    except ValueError:  # not the main thread: signals stay with whoever owns it
        old = {}
    try:
        yield leave
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
