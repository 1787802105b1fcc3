"""AdamW with weight decay and learning rates by parameter (parity FACTS, section 8)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection

import torch
from torch import nn

from imglish.train.config import OptimizerConfig
from imglish.train.parallelize import bare_name


def is_decayed(name: str, parameter: nn.Parameter, exceptions: Collection[str]) -> bool:
    """Vectors, biases and the named exceptions are not decayed; everything else is."""
    return parameter.ndim > 1 and not name.endswith(".bias") and name not in exceptions


def layer_scale(layer: int, num_layers: int, decay: float) -> float:
    """Learning-rate factor of a layer: decay^(L + 1 - id); id 0 is the embedding, L + 1 the head."""
    return float(decay ** (num_layers + 1 - layer))


def build_optimizer(
    model: nn.Module,
    config: OptimizerConfig,
    *,
    exceptions: Collection[str] = (),
    scale: Callable[[str], float] | None = None,
    decayed: Callable[[str], float] | None = None,
) -> torch.optim.AdamW:
    """Group the parameters of a model and give them to AdamW.

    Args:
        model: Sharded or not; parameters that do not require gradients are left out.
        config: Rates and decays.
        exceptions: Names of parameters that are not decayed beyond the common rule.
        scale: Learning-rate factor of a parameter by its name; 1 for all where None.
        decayed: Whether a parameter is decayed, or what share of the decay it has, by its name alone, in
            place of the common rule and its exceptions; None keeps to these.

    Returns:
        The optimiser; each group carries ``lr_scale``, which the loop multiplies the schedule with.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            bare = bare_name(name)
            factor = scale(bare) if scale is not None else 1.0
            share = float(is_decayed(bare, parameter, exceptions) if decayed is None else decayed(bare))
            groups[factor, share].append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": config.lr * factor,
                "lr_scale": factor,
                "weight_decay": config.weight_decay * share,
            }
            for (factor, share), parameters in groups.items()
        ],
        betas=config.betas,
        eps=config.eps,
    )
