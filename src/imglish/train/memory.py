"""What weights, gradients and optimiser take on each rank, by formula; activations are the models' affair.

The formulas follow `parallelize`, `build_optimizer` and `autocast`: what is updated is float32, and autocast
keeps bf16 copies of what goes into products from the forward to the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from imglish.errors import ConfigError
from imglish.train.parallelize import blocks_of

Wrapping = Literal["single", "ddp", "fsdp2"]
_FLOAT32, _BF16 = 4, 2


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSizes:
    """Parameters of a model as the strategies part them.

    Args:
        total: All.
        largest_block: Of its largest Transformer block, 0 where it has none.
        outside: Outside the blocks.
        in_products: Of linears and convolutions, which autocast copies.
    """

    total: int
    largest_block: int
    outside: int
    in_products: int


def model_sizes(model: nn.Module) -> ModelSizes:
    """Count the parameters of a model; the meta device will do."""
    total = _count(model)
    blocks = [_count(block) for block in blocks_of(model)]
    return ModelSizes(
        total=total,
        largest_block=max(blocks, default=0),
        outside=total - sum(blocks),
        in_products=_in_products(model),
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _in_products(module: nn.Module) -> int:
    products = [part for part in module.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    return sum(parameter.numel() for part in products for parameter in part.parameters(recurse=False))


@dataclass(frozen=True, kw_only=True, slots=True)
class StateBytes:
    """Bytes on one rank, whatever the batch.

    Args:
        weights: In float32; a share under ``fsdp2``.
        gradients: The same.
        moments: The two of AdamW.
        averages: The averaged weights, where there are any.
        buckets: In which DDP exchanges gradients: a second copy of them.
        gathered: Whole weights and gradients of what FSDP2 has brought together at a time: all outside the
            blocks, the weights of two blocks (one is fetched ahead) and the gradients of one.
        casts: bf16 copies that autocast makes of whole weights, and keeps to the end of the step.
        update: What AdamW works in besides, in the update alone.
    """

    weights: int
    gradients: int
    moments: int
    averages: int
    buckets: int
    gathered: int
    casts: int
    update: int

    @property
    def resident(self) -> int:
        """What is there all the time."""
        return self.weights + self.gradients + self.moments + self.averages + self.buckets

    @property
    def in_passes(self) -> int:
        """What is there in forward and backward passes besides."""
        return self.gathered + self.casts


def state_bytes(
    sizes: ModelSizes,
    strategy: Wrapping,
    *,
    world_size: int,
    precision: Literal["fp32", "bf16", "bf16_params"],
    averaged: bool = False,
    accumulates: bool = False,
) -> StateBytes:
    """Bytes of a model's training state on one rank.

    Args:
        sizes: The model.
        strategy: How it is spread.
        world_size: Ranks.
        precision: What the run computes in.
        averaged: True keeps averaged weights.
        accumulates: True has several micro steps, between which FSDP2 keeps whole gradients.
    """
    whole = _FLOAT32 * sizes.total
    share = -(-whole // world_size) if strategy == "fsdp2" else whole
    gathered = 0
    if strategy == "fsdp2":
        # Gradients come as the weights are, and are summed over ranks in float32.
        size = _BF16 if precision == "bf16_params" else _FLOAT32
        gathered = 2 * size * sizes.outside + (3 * size + _FLOAT32) * sizes.largest_block
    return StateBytes(
        weights=share,
        gradients=whole if accumulates else share,
        moments=2 * share,
        averages=share if averaged else 0,
        buckets=whole if strategy == "ddp" else 0,
        gathered=gathered,
        casts=_BF16 * sizes.in_products if precision == "bf16" else 0,
        update=share,
    )


def resolve_strategy(
    strategy: Literal["auto", "single", "ddp", "fsdp2"], world_size: int, *, alone: bool
) -> Wrapping:
    """What `parallelize` makes of a strategy.

    Args:
        strategy: As the settings have it.
        world_size: Ranks.
        alone: True for ``bf16_params``, which is FSDP2's affair, also on one rank.

    Raises:
        ConfigError: ``single`` was asked for several ranks, or ``fsdp2`` for one.
    """
    if strategy == "single" and world_size > 1:
        raise ConfigError(
            f"strategy 'single' was asked for, but there are {world_size} ranks; use 'ddp' or 'fsdp2'"
        )
    if strategy == "auto" and alone:
        return "fsdp2"
    if strategy == "fsdp2" and world_size == 1 and not alone:
        raise ConfigError(
            "a model is sharded over several ranks, but there is one; use 'single', or --gpus 2"
        )
    if strategy == "auto":
        return "single" if world_size == 1 else "ddp"
    return strategy


def checkpoint_bytes(parameters: int, *, averaged: bool) -> int:
    """Size on disk of a checkpoint: weights, two moments and, where there are any, averaged weights."""
    return _FLOAT32 * parameters * (4 if averaged else 3)
