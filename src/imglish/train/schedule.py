"""Learning rate by step, a pure function: nothing to save, nothing to get out of step."""

from __future__ import annotations

import math

from imglish.train.config import OptimizerConfig, ScheduleConfig


def learning_rate(step: int, num_steps: int, optimizer: OptimizerConfig, schedule: ScheduleConfig) -> float:
    """Peak rate of step ``step``, counted from 0, of ``num_steps`` (parity FACTS, section 8).

    As the released code has it, both ends of the warmup are included, so the peak is taken twice, and the
    cosine ends one step before its minimum.
    """
    warmup = schedule.warmup_steps
    if step < warmup:
        return optimizer.lr * step / (warmup - 1) if warmup > 1 else 0.0
    share = (step - warmup) / max(1, num_steps - warmup)
    return schedule.final_lr + 0.5 * (optimizer.lr - schedule.final_lr) * (1 + math.cos(math.pi * share))
