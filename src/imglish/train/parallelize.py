"""Data parallelism around a task's model; the loop cannot tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, cast

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize

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
            bare = _bare_name(name)
            whole[bare] = tensor if bare == name else tensor.reshape(())
        return whole

    def _exchange(self, yes: bool) -> None:
        self._exchanges = yes
        cast("FSDPModule", self.module).set_requires_gradient_sync(yes)


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


def shard(model: nn.Module, blocks: Iterable[nn.Module], ranks: Ranks) -> ShardedModel:
    """Spread a model over the ranks: each block by itself, then all that is left together.

    The model is changed in place. Build the optimiser from its parameters afterwards. Parameters without a
    dimension, as the logit scale, which FSDP2 cannot shard, are kept in a vector of one number; the model
    still reads a scalar.

    The loop refuses such a model: checkpoints and averaged weights do not gather shards.

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


def _bare_name(name: str) -> str:
    """The name that a parameter had before `shard` made a vector of it."""
    before, marker, rest = name.rpartition(_SCALAR[0])
    return before + rest.removesuffix(_SCALAR[1]) if marker else name
