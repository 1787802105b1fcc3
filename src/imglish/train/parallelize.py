"""Data parallelism around a task's model; the loop cannot tell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from imglish.errors import ConfigError
from imglish.structures.instances import Instances
from imglish.train.distributed import Ranks, join_alone

if TYPE_CHECKING:  # half a second to import, and few runs are sharded
    from torch.distributed.fsdp import FSDPModule

_Precision = Literal["fp32", "bf16", "bf16_params"]
_MOST_GRAPHS = 128  # of a block; three streams in buckets, trained and scored, have about 60
_SCALAR = ("parametrizations.", ".original")  # what torch puts around the name of a parametrised tensor


class ShardedModel(nn.Module):
    """A model whose weights, gradients and optimiser state are spread over the ranks (FSDP2).

    It looks like `DistributedDataParallel` from outside: ``module`` is the model, `no_sync` holds the
    exchange of gradients back. `shard` makes one.

    Args:
        module: Sharded already.
        precision: How `shard` made it.
    """

    def __init__(self, module: FSDPModule, precision: _Precision = "fp32") -> None:
        super().__init__()
        self.module: nn.Module = cast(nn.Module, module)
        self.precision = precision
        self._exchanges, self._in_bf16 = True, precision == "bf16_params"

    def forward(self, *inputs: Any, **named_inputs: Any) -> Any:
        """Call the model; weights are brought together around each block."""
        if not self._in_bf16:
            return self.module(*inputs, **named_inputs)
        device = next(self.module.parameters()).device.type
        with torch.autocast(device, enabled=False):
            return self.module(*_in_bf16(inputs), **_in_bf16(named_inputs))

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Let gradients add up on each rank; what follows the outermost context exchanges them all.

        Unlike that of DDP it acts on the backward pass alone.
        """
        before = self._exchanges
        self._exchange(False)
        try:
            yield
        finally:
            self._exchange(before)

    def whole_weights(self) -> dict[str, Tensor]:
        """The weights under the names and in the shapes of the model before it was sharded.

        Every rank must call this, and each gets all of them, on the device they are computed on.
        """
        from torch.distributed.tensor import DTensor

        whole = {}
        for name, tensor in self.module.state_dict().items():
            if isinstance(tensor, DTensor):
                tensor = tensor.full_tensor()
            bare = bare_name(name)
            whole[bare] = tensor if bare == name else tensor.reshape(())
        return whole

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Keep the whole weights in fp32 on every rank, to evaluate with; every rank enters and leaves.

        Ranks may then score unequal numbers of batches, and call any method of the model. Weights must not
        change inside, and ``state_dict`` would spread them again.
        """
        parts = self._parts()
        root = cast("FSDPModule", self.module)
        root.set_reshard_after_forward(False)
        exact = self._whole_parameters() if self.precision == "bf16_params" else {}
        for part in parts:
            part.unshard()
        for name, weight in exact.items():  # over those in bf16; `reshard` puts the shares back
            owner, _, leaf = name.rpartition(".")
            setattr(self.module.get_submodule(owner), leaf, weight)
        self._in_bf16 = False
        try:
            yield
        finally:
            self._in_bf16 = self.precision == "bf16_params"
            for part in parts:
                part.reshard()
                # As `shard` leaves it: the outermost part is needed again at once by the backward pass.
                part.set_reshard_after_forward(part is not root, recurse=False)

    def _parts(self) -> list[FSDPModule]:
        """All that is brought together by itself, the whole model first."""
        from torch.distributed.fsdp import FSDPModule

        return [module for module in self.module.modules() if isinstance(module, FSDPModule)]

    def _whole_parameters(self) -> dict[str, nn.Parameter]:
        from torch.distributed.tensor import DTensor

        found = {}
        for part in self._parts():
            part.reshard()  # a forward pass without a backward leaves some together
        for name, shares in self.module.named_parameters(remove_duplicate=False):
            assert isinstance(shares, DTensor)
            found[name] = nn.Parameter(shares.full_tensor().detach(), requires_grad=False)
        return found

    def _exchange(self, yes: bool) -> None:
        self._exchanges = yes
        cast("FSDPModule", self.module).set_requires_gradient_sync(yes)


def parallelize(
    model: nn.Module,
    strategy: Literal["auto", "single", "ddp", "fsdp2"],
    ranks: Ranks,
    *,
    activation_checkpointing: bool = False,
    compiled: bool = False,
    precision: Literal["fp32", "bf16", "bf16_params"] = "fp32",
) -> nn.Module:
    """Prepare a model for training and wrap it for the ranks. Build the optimiser afterwards.

    Args:
        model: With the same weights on every rank, on ``ranks.device``; changed in place.
        strategy: ``ddp`` keeps the whole model on each rank, ``fsdp2`` a share (see `shard`), ``auto`` is
            ``ddp`` where there are several ranks, and ``fsdp2`` for ``bf16_params``.
        ranks: This process among all.
        activation_checkpointing: True computes each block twice and keeps only what goes into it.
        compiled: True compiles each block with `torch.compile`.
        precision: What the run computes in, see `shard`. ``ddp`` and ``single`` keep weights in fp32, whether
            under autocast or not.

    Raises:
        ConfigError: ``single`` was asked for although there are several ranks, or ``fsdp2`` for one, or
            ``bf16_params`` without ``fsdp2`` or for a model with running statistics.
    """
    if precision == "bf16_params" and strategy in ("single", "ddp"):
        raise ConfigError(f"precision bf16_params goes with strategy fsdp2, also on one GPU; got {strategy}")
    model = synchronise_norms(model, ranks)
    if strategy == "single" and ranks.world_size > 1:
        raise ConfigError(
            f"strategy 'single' was asked for, but there are {ranks.world_size} ranks; use 'ddp' or 'fsdp2'"
        )
    if compiled:
        # A graph for each kind of sequence (pictures, texts, pairs; padded or not; in an upper block or a
        # lower; with gradients or without): torch stops at 8 and runs the others as they are.
        torch._dynamo.config.recompile_limit = max(_MOST_GRAPHS, torch._dynamo.config.recompile_limit)
    for block in blocks_of(model):
        if activation_checkpointing:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        if compiled:
            block.compile()
    if strategy == "fsdp2" or (strategy == "auto" and precision == "bf16_params"):
        return shard(model, blocks_of(model), ranks, precision)
    if strategy == "single" or (strategy == "auto" and ranks.world_size == 1):
        return model
    return DistributedDataParallel(
        model,
        device_ids=[ranks.device] if ranks.device.type == "cuda" else None,
        # Every task leaves some of the Multiway Transformer alone: the mask token, or a whole modality. A
        # static graph would find out once only, but not every step goes through the model as often.
        find_unused_parameters=True,
    )


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The Transformer blocks of a model, wherever they lie in it.

    Every encoder lists them as ``blocks``; those of BEiT v2's second way are ``class_blocks``.
    """
    names = ("blocks", "class_blocks")
    lists = [part for name, part in model.named_modules() if name.rpartition(".")[2] in names]
    return [block for part in lists if isinstance(part, nn.ModuleList) for block in part]


def synchronise_norms(model: nn.Module, ranks: Ranks) -> nn.Module:
    """Let batch norm, wherever it lies in a model, count the pictures of all ranks; names and weights stay.

    Torch has no such norm on CPUs: there each rank counts its own pictures, and the statistics of the main
    rank are those that are saved.
    """
    if ranks.world_size == 1 or ranks.device.type != "cuda":
        return model
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return converted


def shard(
    model: nn.Module,
    blocks: Iterable[nn.Module],
    ranks: Ranks,
    precision: Literal["fp32", "bf16", "bf16_params"] = "fp32",
) -> ShardedModel:
    """Spread a model over the ranks: each block by itself, then all that is left together.

    The model is changed in place. Build the optimiser from its parameters afterwards. Parameters without a
    dimension, as the logit scale, which FSDP2 cannot shard, are kept in a vector of one number; the model
    still reads a scalar.

    Args:
        model: With the same weights on every rank, on ``ranks.device``.
        blocks: Parts of the model whose weights are brought together one at a time: ``encoder.blocks``.
        ranks: This process among all.
        precision: ``bf16_params`` brings weights together in bf16 and computes in bf16 throughout; shares are
            fp32 and gradients are summed over ranks in fp32 all the same. The others bring weights together
            in fp32, under autocast or not.

    Raises:
        ConfigError: There is one rank only, and no ``bf16_params``; or the model has running statistics, as
            batch norm and codebooks have, which are too fine for ``bf16_params``.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import (
        MixedPrecisionPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    if precision == "bf16_params":
        if any(buffer.is_floating_point() for buffer in model.buffers()):
            raise ConfigError(
                "precision bf16_params: this model keeps running statistics (batch norm, or a codebook), "
                "which are too fine for it; use precision bf16"
            )
        join_alone(ranks.device)
    elif ranks.world_size == 1:
        raise ConfigError("a model is sharded over several ranks, but there is one; start it with torchrun")
    for module in list(model.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.ndim == 0:
                parametrize.register_parametrization(module, name, _Scalar())
    mesh = init_device_mesh(ranks.device.type, (ranks.world_size,))
    block_policy = root_policy = MixedPrecisionPolicy()
    if precision == "bf16_params":  # `ShardedModel` casts what goes in, batches too
        block_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        root_policy = replace(block_policy, output_dtype=torch.float32)
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=block_policy)
        if hasattr(block, "extend"):  # the other way into a block of BEiT-3 needs its weights as well
            register_fsdp_forward_method(block, "extend")
    return ShardedModel(fully_shard(model, mesh=mesh, mp_policy=root_policy), precision)


def gathered(model: nn.Module) -> AbstractContextManager[None]:
    """See `ShardedModel.gathered`; nothing for other models, which are whole."""
    return model.gathered() if isinstance(model, ShardedModel) else nullcontext()


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """The state of the model inside a wrapper, whole, under its own names; every rank must call this."""
    return model.whole_weights() if isinstance(model, ShardedModel) else unwrap(model).state_dict()


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale gradients down to a norm over all of them, whichever rank they lie on; 0 leaves them.

    Every rank must call this.

    Returns:
        The norm before, a plain scalar on every rank.
    """
    norm = nn.utils.clip_grad_norm_(parameters, max_norm or math.inf)
    whole: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return whole


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a parallel wrapper."""
    return model.module if isinstance(model, DistributedDataParallel | ShardedModel) else model


def gradient_sync(model: nn.Module, *, last: bool) -> AbstractContextManager[object]:
    """Exchange gradients on the last micro step of an update only."""
    if isinstance(model, DistributedDataParallel | ShardedModel) and not last:
        context: AbstractContextManager[object] = model.no_sync()
        return context
    return nullcontext()


def _in_bf16(value: Any) -> Any:
    """The same with every floating-point tensor in it cast, in containers and batches too.

    Objects to be found keep their boxes: in bf16 sides at a thousand pixels would lie four pixels apart.
    """
    if isinstance(value, Instances):
        return value
    if isinstance(value, Tensor):
        return value.bfloat16() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _in_bf16(part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_in_bf16, value))
    if isinstance(value, tuple | list):
        return type(value)(map(_in_bf16, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _in_bf16(getattr(value, field.name)) for field in fields(value)})
    return value


class _Scalar(nn.Module):
    """A scalar kept as a vector of one number."""

    def forward(self, vector: Tensor) -> Tensor:
        return vector.reshape(())

    def right_inverse(self, scalar: Tensor) -> Tensor:
        return scalar.reshape(1)


def bare_name(name: str) -> str:
    """The name that a parameter had before `shard` made a vector of it; others stay."""
    before, marker, rest = name.rpartition(_SCALAR[0])
    return before + rest.removesuffix(_SCALAR[1]) if marker else name
