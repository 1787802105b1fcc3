"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159): sample, weigh, add.

One operation in four forms that give the same numbers:

- ``reference``: one ``grid_sample`` a level, as the paper reads; any device.
- ``gather``: weighted sums of rows, the fast one on a CPU.
- ``export``: the same sums in standard ONNX operators (Gather, Mul, ReduceSum), with no size fixed.
- ``triton``: fused kernels for a GPU, forward and backward.

Shapes: B batch, Q queries, L levels, P points, C channels of one head.
"""

from __future__ import annotations

import importlib.util
from typing import Literal

import torch
from torch import Tensor

from imglish.ops.deformable.gather import export_form, gather_form
from imglish.ops.deformable.reference import LevelSizes as LevelSizes, reference_form

Form = Literal["auto", "reference", "gather", "export", "triton"]

TRITON_IS_INSTALLED: bool = importlib.util.find_spec("triton") is not None


def deformable_attention(
    values: Tensor, level_sizes: LevelSizes, locations: Tensor, weights: Tensor, *, form: Form = "auto"
) -> Tensor:
    """Weigh values sampled at given places.

    Samples are bilinear between pixel centres, the pixels outside a level being zeros; values of 16 bits are
    weighed and added in float32. On a GPU the gradient of values is added atomically, by the reference form
    too: its last bits differ from run to run.

    Args:
        values: (B, N, heads, C), the levels' pixels one after the other, row by row.
        level_sizes: (height, width) of each level, at least 1; N is the sum of their products.
        locations: (B, Q, heads, L, P, 2) as (x, y) in units of the level, [0, 1] inside. Places outside
            see zeros. Better not of 16 bits: bfloat16 misses one among 64 pixels by an eighth of a pixel.
        weights: (B, Q, heads, L, P), summing to one over L x P.
        form: How it is computed; ``auto`` takes ``export`` while a graph is exported, else ``triton`` on a
            CUDA device where Triton is installed, ``gather`` on a CPU and ``reference`` elsewhere.

    Returns:
        (B, Q, heads x C), of the values' dtype.

    Raises:
        ValueError: The shapes do not belong together, or ``triton`` was asked for and cannot run here.
    """
    _check(values, level_sizes, locations, weights)
    if form == "auto":
        form = _fastest(values)
    if form == "triton":
        if not TRITON_IS_INSTALLED:
            raise ValueError("the triton form of deformable attention needs Triton, which is not installed")
        from imglish.ops.deformable.triton_form import triton_form

        return triton_form(values, level_sizes, locations, weights)
    if form == "gather":
        return gather_form(values, level_sizes, locations, weights)
    if form == "export":
        return export_form(values, level_sizes, locations, weights)
    return reference_form(values, level_sizes, locations, weights)


def reference_points(level_sizes: LevelSizes, device: torch.device | None = None) -> Tensor:
    """Pixel centres of every level as (x, y) in [0, 1], one level after the other, row by row: (N, 2)."""
    points = []
    for height, width in level_sizes:
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        points.append(torch.stack([grid_x, grid_y], dim=-1).flatten(0, 1))
    return torch.cat(points)


def _fastest(values: Tensor) -> Form:
    if torch.compiler.is_exporting():
        return "export"
    if values.is_cuda and TRITON_IS_INSTALLED:
        return "triton"
    return "gather" if values.device.type == "cpu" else "reference"


def _check(values: Tensor, level_sizes: LevelSizes, locations: Tensor, weights: Tensor) -> None:
    """No form reads beyond its inputs: a kernel would not notice."""
    batch, num_pixels, heads, _ = values.shape
    expected = (batch, locations.shape[1], heads, len(level_sizes), locations.shape[4], 2)
    if locations.shape != expected or weights.shape != expected[:-1]:
        raise ValueError(
            f"locations {tuple(locations.shape)} and weights {tuple(weights.shape)} do not belong to values "
            f"{tuple(values.shape)} of {len(level_sizes)} levels: expected {expected} and {expected[:-1]}"
        )
    if num_pixels != sum(height * width for height, width in level_sizes):
        raise ValueError(f"values have {num_pixels} pixels, but the levels are {level_sizes}")
