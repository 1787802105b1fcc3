"""Data parallelism around a task's model; the loop cannot tell."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from imglish.train.distributed import Ranks


def parallelize(model: nn.Module, strategy: Literal["auto", "single", "ddp"], ranks: Ranks) -> nn.Module:
    """Wrap a model for the ranks.

    Raises:
        ValueError: ``single`` was asked for although there are several ranks.
    """
    if strategy == "single" and ranks.world_size > 1:
        raise ValueError(
            f"strategy 'single' was asked for, but there are {ranks.world_size} ranks; use 'ddp'"
        )
    if strategy == "single" or (strategy == "auto" and ranks.world_size == 1):
        return model
    return DistributedDataParallel(
        model,
        device_ids=[ranks.device] if ranks.device.type == "cuda" else None,
        # Every task leaves some of the Multiway Transformer alone: the mask token, or a whole modality.
        find_unused_parameters=True,
    )


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a parallel wrapper."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def gradient_sync(model: nn.Module, *, last: bool) -> AbstractContextManager[object]:
    """Exchange gradients on the last micro step of an update only."""
    if isinstance(model, DistributedDataParallel) and not last:
        context: AbstractContextManager[object] = model.no_sync()
        return context
    return nullcontext()
