"""The fused form: Triton kernels behind a custom operator, so that ``torch.compile`` keeps one graph.

Importing this file needs Triton and registers two operators with torch, ``imglish::deformable_attention`` and
its backward; `ops/deformable_attention.py` imports it when it is used. Gradients of values are added
atomically: on a GPU their last bits differ from run to run, as those of ``grid_sample`` do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from imglish.ops.deformable.reference import LevelSizes, accumulation_dtype
from imglish.ops.deformable.triton_kernels import backward_kernel, forward_kernel

_TILE = 1024  # numbers of a tile (bags x channels); eight a thread with four warps


def triton_form(values: Tensor, level_sizes: LevelSizes, locations: Tensor, weights: Tensor) -> Tensor:
    """Arguments and result as in `imglish.ops.deformable_attention.deformable_attention`.

    Raises:
        ValueError: Where the tensors are not on a GPU and Triton does not interpret.
    """
    flat = [number for size in level_sizes for number in size]
    summed: Tensor = _forward(values, locations, weights, flat)
    return summed


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Sequence[int]], output: Tensor) -> None:
    values, locations, weights, ctx.level_sizes = inputs
    ctx.save_for_backward(values, locations, weights)


def _pull(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    values, locations, weights = ctx.saved_tensors
    return *_backward(grad, values, locations, weights, ctx.level_sizes), None


def _differentiable(operator: Any) -> Any:
    operator.register_autograd(_pull, setup_context=_keep)
    return operator


@_differentiable
@torch.library.custom_op("imglish::deformable_attention", mutates_args=())
def _forward(values: Tensor, locations: Tensor, weights: Tensor, level_sizes: Sequence[int]) -> Tensor:
    batch, queries, heads = locations.shape[:3]
    output = values.new_empty(batch, queries, heads * values.shape[-1])
    if output.numel():
        inputs = (values.contiguous(), locations.contiguous(), weights.contiguous())
        _launch(forward_kernel, (*inputs, output), inputs, level_sizes)
    return output


@_forward.register_fake  # type: ignore[untyped-decorator]  # torch does not export the operator's type
def _(values: Tensor, locations: Tensor, weights: Tensor, level_sizes: Sequence[int]) -> Tensor:
    batch, queries, heads = locations.shape[:3]
    return values.new_empty(batch, queries, heads * values.shape[-1])


@torch.library.custom_op("imglish::deformable_attention_backward", mutates_args=())
def _backward(
    grad: Tensor, values: Tensor, locations: Tensor, weights: Tensor, level_sizes: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = (values.contiguous(), locations.contiguous(), weights.contiguous())
    grad_values = torch.zeros_like(inputs[0], dtype=accumulation_dtype(values))
    grads = (grad_values, torch.empty_like(inputs[1]), torch.empty_like(inputs[2]))
    if grad.numel():
        _launch(backward_kernel, (grad.contiguous(), *inputs, *grads), inputs, level_sizes)
    return grad_values.to(values.dtype), grads[1], grads[2]


@_backward.register_fake
def _(
    grad: Tensor, values: Tensor, locations: Tensor, weights: Tensor, level_sizes: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(values, memory_format=torch.contiguous_format),
        torch.empty_like(locations, memory_format=torch.contiguous_format),
        torch.empty_like(weights, memory_format=torch.contiguous_format),
    )


def _launch(
    kernel: Any, pointers: tuple[Tensor, ...], inputs: tuple[Tensor, Tensor, Tensor], sizes: Sequence[int]
) -> None:
    values, locations, _ = inputs
    if not values.is_cuda and isinstance(kernel, triton.runtime.JITFunction):
        raise ValueError(
            f"the triton form of deformable attention needs a GPU; values are on {values.device}"
        )
    num_pixels, heads, channels = values.shape[1:]
    batch, queries, _, num_levels, num_points = locations.shape[:5]
    levels, start = [], 0
    for height, width in zip(sizes[::2], sizes[1::2], strict=True):
        levels += [height, width, start]
        start += height * width
    bags = batch * queries * heads
    block_channels = triton.next_power_of_2(channels)
    block_bags = max(1, _TILE // block_channels)
    with torch.cuda.device_of(values):
        kernel[(triton.cdiv(bags, block_bags),)](
            *pointers,
            tuple(levels),
            bags,
            queries,
            num_pixels,
            NUM_HEADS=heads,
            NUM_LEVELS=num_levels,
            NUM_POINTS=num_points,
            NUM_CHANNELS=channels,
            BLOCK_BAGS=block_bags,
            BLOCK_CHANNELS=block_channels,
            ACCUMULATE=tl.float64 if values.dtype == torch.float64 else tl.float32,
        )
