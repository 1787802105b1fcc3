"""What a run needs to go on exactly where it stopped."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imglish.train.ema import Ema
from imglish.train.parallelize import bare_name


@dataclass(slots=True)
class TrainState:
    """Model, optimiser, average and step of a run.

    Args:
        model: The bare model, without a parallel wrapper; whole or sharded.
        optimizer: Over its parameters.
        ema: Averaged weights, or None.
        step: Updates done.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    step: int = 0


def named_tensors(state: TrainState, saved: Collection[str] | None = None) -> dict[str, Tensor]:
    """Every tensor of a state by names that do not depend on how the model is spread over ranks.

    Those of the optimiser are ``optimizer.<parameter>.<moment>``. Tensors without a dimension come as
    vectors of one number, as sharded models keep them. All are the state's own: who fills them fills it.

    Args:
        state: Whole or sharded.
        saved: Names in a checkpoint: moments of these parameters are made where there are none yet, those
            of others thrown away, as parameters that never had a gradient have none. None leaves all as is.
    """
    found = {f"model.{bare_name(name)}": tensor for name, tensor in state.model.state_dict().items()}
    if state.ema is not None:
        found |= {f"ema.{bare_name(name)}": tensor for name, tensor in state.ema.weights.items()}
    for name, parameter in state.model.named_parameters():
        prefix = f"optimizer.{bare_name(name)}"
        if saved is not None:
            state.optimizer.state.pop(parameter, None)
            if f"{prefix}.exp_avg" in saved:
                state.optimizer.state[parameter] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                    "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
                }
        for moment, tensor in state.optimizer.state.get(parameter, {}).items():
            found[f"{prefix}.{moment}"] = tensor
    return {name: tensor.reshape(1) if tensor.ndim == 0 else tensor for name, tensor in found.items()}


def start_draws(step: int) -> None:
    """Seed every generator anew from this process's first seed and a step, the same each time."""
    seed = int(np.random.SeedSequence([torch.initial_seed(), step]).generate_state(1)[0])
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def rng_state() -> dict[str, Any]:
    """State of every generator that a training step may draw from, as tensors and plain numbers."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    version, internal, gauss_next = random.getstate()
    state: dict[str, Any] = {
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


def restore_rng(state: dict[str, Any]) -> None:
    """Put every generator back to a state that `rng_state` took."""
    torch.set_rng_state(state["torch"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
