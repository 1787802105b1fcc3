"""What autograd keeps of a forward pass, measured: the bytes of all saved tensors, each storage once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Inputs = Mapping[str, Tensor]


def kept_on_cpu(model: nn.Module, call: Callable[[], object], *given: Tensor) -> int:
    """Bytes kept in float32 on this machine, weights and inputs left out."""
    return _kept(call, [*model.parameters(), *model.buffers(), *given])


def kept_on_gpu(
    build: Callable[[], nn.Module],
    call: Callable[[nn.Module], object],
    *,
    precision: Literal["bf16", "bf16_params"],
) -> int:
    """Bytes that a GPU would keep in bf16: tensors without numbers follow its autocast and its kernels.

    Args:
        build: Makes the model.
        call: Its forward pass; new tensors that it makes lie on the GPU.
        precision: bf16 under autocast, or throughout.
    """
    with torch.device("meta"):
        model = build()
    dtype = torch.bfloat16 if precision == "bf16_params" else torch.float32

    def unreal(tensor: Tensor) -> Tensor:
        kind = dtype if tensor.is_floating_point() else tensor.dtype
        return torch.empty(tensor.shape, dtype=kind, device="cuda")

    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"), _FusedAttention():
        model._apply(unreal)
        weights = [*model.parameters(), *model.buffers()]
        with _autocast(enabled=precision == "bf16"):
            return _kept(lambda: call(model), weights)


class _FusedAttention(TorchFunctionMode):
    """Attention by the kernel that a GPU takes; where there is none, torch falls back to plain products."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Answer attention, pass on the rest."""
        named = dict(kwargs or {})
        if func is F.scaled_dot_product_attention:
            query, key, value = (x.to(torch.bfloat16) for x in args)  # as its autocast
            mask = named.get("attn_mask")
            if mask is not None and mask.dtype != torch.bool:  # a bias counts, a mask of padding hardly
                mask = mask.to(torch.bfloat16).expand(*query.shape[:3], key.shape[2])
            else:
                mask = None
            attend = torch.ops.aten._scaled_dot_product_efficient_attention
            return attend(query, key, value, mask, compute_log_sumexp=True)[0]
        return func(*args, **named)


@contextmanager
def _autocast(*, enabled: bool) -> Iterator[None]:
    """`torch.autocast` itself refuses where there is no GPU."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", enabled)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    try:
        yield
    finally:
        torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])


def _kept(call: Callable[[], object], given: Sequence[Tensor]) -> int:
    """Bytes of the storages that autograd saves, but for those given and bf16 copies of them."""
    known = {tensor.untyped_storage()._cdata for tensor in given}
    shapes = {tensor.shape for tensor in given} | {tensor.t().shape for tensor in given if tensor.ndim == 2}
    found: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        # Shapes of weights are unlike those of tokens in these tests.
        if storage not in known and tensor.shape not in shapes:
            found.setdefault(storage, tensor)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        output = call()  # as long as it lives, no storage is used a second time
    total = sum(tensor.untyped_storage().nbytes() for tensor in found.values())
    del output
    return total
