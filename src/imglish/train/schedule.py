"""Learning rate by step, a pure function: nothing to save, nothing to get out of step."""

from __future__ import annotations

import math

from imglish.train.config import OptimizerConfig, ScheduleConfig


def learning_rate(step: int, num_steps: int, optimizer: OptimizerConfig, schedule: ScheduleConfig) -> float:
    """Rate of a step, as the released code has it (parity FACTS, section 8).

    Both ends of the warmup are included, so the peak is taken twice; the cosine ends one step before its
    minimum, the line at it.

    Args:
        step: Counted from 0.
        num_steps: Of the whole run.
        optimizer: Its ``lr`` is the peak.
        schedule: Shape, warmup and end.
    """
    peak, warmup = optimizer.lr, schedule.warmup_steps
    if schedule.kind == "poly":
        rate = schedule.final_lr + (peak - schedule.final_lr) * (1 - step / num_steps)
        return rate * _warmup_factor(step, schedule.warmup_lr / peak, warmup)
    if schedule.kind == "step":
        passed = sum(step >= round(share * num_steps) for share in schedule.drops)
        return peak * 0.1**passed * _warmup_factor(step, schedule.warmup_lr / peak, warmup)
    if step < warmup:
        # A warmup of one step has its lower end only, where step is 0.
        return schedule.warmup_lr + (peak - schedule.warmup_lr) * step / max(1, warmup - 1)
    done, remaining = step - warmup, num_steps - warmup
    if schedule.kind == "linear":
        return peak + (schedule.final_lr - peak) * done / max(1, remaining - 1)
    share = done / max(1, remaining)
    return schedule.final_lr + 0.5 * (peak - schedule.final_lr) * (1 + math.cos(math.pi * share))


def _warmup_factor(step: int, least: float, warmup: int) -> float:
    """From ``least`` at step 0 to 1 at step ``warmup``, as mmcv warms up (adapter FACTS, section 6)."""
    return 1.0 if step >= warmup else 1 - (1 - step / warmup) * (1 - least)
