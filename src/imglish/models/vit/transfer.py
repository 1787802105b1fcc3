"""Weights of a pretrained ViT, made to fit one of other settings: the start of an adapter's backbone.

As the official ViT-Adapter's loaders do it (parity FACTS of the adapter, section 7).
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor
from torch.nn import functional as F

from imglish.errors import CheckpointError
from imglish.models.vit.config import ViTConfig
from imglish.models.vit.positions import NUM_CLASS_OFFSETS, resize_positions, resize_relative_positions
from imglish.models.vit.weights import share_out_table
from imglish.models.weight_map import StateDict

Grid = tuple[int, int]

_SHARED_TABLE = "relative_positions.table"
_TABLE = re.compile(r"blocks\.(\d+)\.attention\.relative_positions\.table")
_PATCHES = "patches.proj.weight"


def fit_state(
    state: StateDict, config: ViTConfig, *, where: str, source: ViTConfig | None = None
) -> dict[str, Tensor]:
    """Fit a pretrained `ViT`'s weights to another picture, other windows and patches, and other parts.

    A table that all blocks share is copied to each; tables of relative positions are resized by the spline of
    `resize_relative_positions`, to the picture or to the block's window, and lose the rows of a class token
    that is not there any more; absolute positions are resized bicubic; kernels of patches of another size
    bilinear (DINOv2's 14 pixels to 16). What ``config`` has no place for is left out: class token, last norm.
    Factors on the branches that the file lacks are ones: the function stays the same.

    Args:
        state: Of a `ViT`, or a part of it.
        config: Settings of the `ViT` wanted. Whether the result is whole is for `check_state` to say.
        where: The file, for messages.
        source: Settings that the weights were made with; None reads the grid from the tables, which are then
            those of square pictures.

    Raises:
        CheckpointError: Positions are of no square grid, or lack a row of the class token that is wanted.
    """
    shared = config.relative_positions == "per_block"
    ours = share_out_table(state, config.depth) if shared else dict(state)
    for name, tensor in list(ours.items()):
        if match := _TABLE.fullmatch(name):
            window = config.window(int(match[1]))
            grid = (window, window) if window else config.grid_size
            ours[name] = _fit_table(tensor, grid, config, f"{where}: {name}", _window(source, int(match[1])))
        elif name == _SHARED_TABLE:
            old = None if source is None else source.grid_size
            ours[name] = _fit_table(tensor, config.grid_size, config, f"{where}: {name}", old)
        elif name == "positions":
            ours[name] = _fit_positions(tensor, config, f"{where}: {name}", source)
        elif name == _PATCHES and tensor.shape[-1] != config.patch_size:
            size = (config.patch_size, config.patch_size)
            kernel = F.interpolate(tensor.float(), size=size, mode="bilinear", align_corners=False)
            ours[name] = kernel.to(tensor.dtype)
        elif name == "class_token" and not config.class_token:
            del ours[name]
        elif name.startswith("norm.") and not config.output_norm:
            del ours[name]
    return ours | _missing_scales(ours, config)


def _window(source: ViTConfig | None, block: int) -> Grid | None:
    """(rows, columns) that a block's table was made for, where that is known."""
    if source is None:
        return None
    window = source.window(block)
    return (window, window) if window else source.grid_size


def _fit_table(table: Tensor, grid: Grid, config: ViTConfig, where: str, old: Grid | None) -> Tensor:
    """A table of relative positions (rows, heads) for a grid (rows, columns)."""
    for num_class in (NUM_CLASS_OFFSETS, 0):
        side = (math.isqrt(max(len(table) - num_class, 0)) + 1) // 2
        made_for = old or (side, side)
        num_offsets = (2 * made_for[0] - 1) * (2 * made_for[1] - 1)
        if num_offsets == len(table) - num_class:
            break
    else:
        wanted = "no square grid's" if old is None else f"not those of {old} patches"
        raise CheckpointError(f"{where} has {len(table)} rows, which are {wanted}; get the file anew")
    if config.class_token and not num_class:
        raise CheckpointError(
            f"{where} has no rows of the class token, which this model keeps; take a file that has them"
        )
    if not config.class_token:
        table = table[:num_offsets]
    return resize_relative_positions(table, made_for, grid, class_token=config.class_token)


def _fit_positions(positions: Tensor, config: ViTConfig, where: str, source: ViTConfig | None) -> Tensor:
    """Absolute positions (1, P + N, C) for the grid of the settings."""
    num_rows = positions.shape[1]
    if source is None:
        num_class = int(math.isqrt(num_rows) ** 2 != num_rows)
        side = math.isqrt(num_rows - num_class)
        old = (side, side)
    else:
        num_class, old = int(source.class_position), source.grid_size
    if old[0] * old[1] != num_rows - num_class:
        wanted = "no square grid's" if source is None else f"not those of {old} patches"
        raise CheckpointError(f"{where} has {num_rows} rows, which are {wanted}; get the file anew")
    if config.class_position and not num_class:
        raise CheckpointError(
            f"{where} has no row of the class token, which this model keeps; set class_position False"
        )
    if not config.class_position:
        positions, num_class = positions[:, num_class:], 0
    resized = resize_positions(positions.float(), old, config.grid_size, num_prefix=num_class)
    return resized.to(positions.dtype)


def _missing_scales(state: StateDict, config: ViTConfig) -> dict[str, Tensor]:
    """Factors of one for the blocks that are there and have none."""
    if not config.has_scales:
        return {}
    scales = {}
    for block in range(config.depth):
        beside = f"blocks.{block}.norm1.weight"
        for name in (f"blocks.{block}.scale1", f"blocks.{block}.scale2"):
            if beside in state and name not in state:
                scales[name] = torch.ones_like(state[beside])
    return scales
