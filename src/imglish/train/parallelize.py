"""Data parallelism around a task's model; the loop cannot tell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from imglish.errors import ConfigError
from imglish.train.distributed import Ranks

if TYPE_CHECKING:  # half a second to import, and few runs are sharded
    from torch.distributed.fsdp import FSDPModule

_SCALAR = ("parametrizations.", ".original")  # what torch puts around the name of a parametrised tensor


class ShardedModel(nn.Module):
    """A model whose weights, gradients and optimiser state are spread over the ranks (FSDP2).

    It looks like `DistributedDataParallel` from outside: ``module`` is the model, `no_sync` holds the
    exchange of gradients back. `shard` makes one.

    Args:
        module: Sharded already.
    """

    def __init__(self, module: FSDPModule) -> None:
        super().__init__()
        self.module: nn.Module = cast(nn.Module, module)
        self._exchanges = True

    def forward(self, *inputs: Any, **named_inputs: Any) -> Any:
        """Call the model; weights are brought together around each block."""
        return self.module(*inputs, **named_inputs)

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
        """Keep the whole weights on every rank, to evaluate with; every rank enters and leaves.

        Ranks may then score unequal numbers of batches, and call any method of the model. Weights must not
        change inside, and ``state_dict`` would spread them again.
        """
        from torch.distributed.fsdp import FSDPModule

        parts = [module for module in self.module.modules() if isinstance(module, FSDPModule)]
        root = cast("FSDPModule", self.module)
        root.set_reshard_after_forward(False)
        for part in parts:
            part.unshard()
        try:
            yield
        finally:
            for part in parts:
                part.reshard()
                # As `shard` leaves it: the outermost part is needed again at once by the backward pass.
                part.set_reshard_after_forward(part is not root, recurse=False)

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
) -> nn.Module:
    """Prepare a model for training and wrap it for the ranks. Build the optimiser afterwards.

    Args:
        model: With the same weights on every rank, on ``ranks.device``; changed in place.
        strategy: ``ddp`` keeps the whole model on each rank, ``fsdp2`` a share (see `shard`), ``auto`` is
            ``ddp`` where there are several ranks.
        ranks: This process among all.
        activation_checkpointing: True computes each block twice and keeps only what goes into it.
        compiled: True compiles each block with `torch.compile`.

    Raises:
        ConfigError: ``single`` was asked for although there are several ranks, or ``fsdp2`` for one.
    """
    if strategy == "single" and ranks.world_size > 1:
        raise ConfigError(
            f"strategy 'single' was asked for, but there are {ranks.world_size} ranks; use 'ddp' or 'fsdp2'"
        )
    for block in blocks_of(model):
        if activation_checkpointing:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        if compiled:
            block.compile()
    if strategy == "fsdp2":
        return shard(model, blocks_of(model), ranks)
    if strategy == "single" or (strategy == "auto" and ranks.world_size == 1):
        return model
    return DistributedDataParallel(
        model,
        device_ids=[ranks.device] if ranks.device.type == "cuda" else None,
        # Every task leaves some of the Multiway Transformer alone: the mask token, or a whole modality.
        find_unused_parameters=True,
    )


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The Transformer blocks of a model, wherever they lie in it: every encoder lists them as ``blocks``."""
    lists = [part for name, part in model.named_modules() if name.rpartition(".")[2] == "blocks"]
    return [block for part in lists if isinstance(part, nn.ModuleList) for block in part]


def shard(model: nn.Module, blocks: Iterable[nn.Module], ranks: Ranks) -> ShardedModel:
    """Spread a model over the ranks: each block by itself, then all that is left together.

    The model is changed in place. Build the optimiser from its parameters afterwards. Parameters without a
    dimension, as the logit scale, which FSDP2 cannot shard, are kept in a vector of one number; the model
    still reads a scalar.

    Args:
        model: With the same weights on every rank, on ``ranks.device``.
        blocks: Parts of the model whose weights are brought together one at a time: ``encoder.blocks``.
        ranks: This process among all.

    Raises:
        ConfigError: There is one rank only.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if ranks.world_size == 1:
        raise ConfigError("a model is sharded over several ranks, but there is one; start it with torchrun")
    for module in list(model.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.ndim == 0:
                parametrize.register_parametrization(module, name, _Scalar())
    mesh = init_device_mesh(ranks.device.type, (ranks.world_size,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    return ShardedModel(fully_shard(model, mesh=mesh))


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
