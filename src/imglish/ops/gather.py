"""Gathering features over ranks, with gradients."""

from __future__ import annotations

import torch
from torch import Tensor, distributed as dist


def gather_with_gradient(x: Tensor) -> Tensor:
    """Concatenate the ``x`` (B, ...) of all ranks to (world size x B, ...), in rank order.

    The gradient of every rank's loss reaches the rank that the features came from. Each rank receives the
    sum over ranks; as data parallelism then averages, the result equals one rank with the whole batch and
    the mean of the ranks' losses.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return x
    gathered: Tensor = _Gather.apply(x)
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        size = gradient.shape[0] // dist.get_world_size()
        start = dist.get_rank() * size
        return gradient[start : start + size]
