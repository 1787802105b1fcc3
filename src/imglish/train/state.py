"""What a run needs to go on exactly where it stopped."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from imglish.train.ema import Ema


@dataclass(slots=True)
class TrainState:
    """Model, optimiser, average and step of a run.

    Args:
        model: The bare model, without a parallel wrapper.
        optimizer: Over its parameters.
        ema: Averaged weights, or None.
        step: Updates done.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    step: int = 0


def rng_state() -> dict[str, object]:
    """State of every generator that a training step may draw from, as tensors and plain numbers."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    version, internal, gauss_next = random.getstate()
    state: dict[str, object] = {
        "torch": torch.get_rng_state(),
        "numpy": [
            str(name),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(gauss),
        ],
        "python": [version, list(internal), gauss_next],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_rng(state: dict[str, object]) -> None:
    """Put every generator back to a state that `rng_state` took."""
    torch.set_rng_state(_tensor(state["torch"]))
    name, keys, position, has_gauss, gauss = state["numpy"]  # type: ignore[misc]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # type: ignore[has-type]
    version, internal, gauss_next = state["python"]  # type: ignore[misc]
    random.setstate((version, tuple(internal), gauss_next))  # type: ignore[has-type]
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(_tensor(state["cuda"]))


def _tensor(value: object) -> Tensor:
    assert isinstance(value, Tensor)
    return value
