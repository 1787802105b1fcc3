"""Anchors: boxes of a few sizes and shapes around every cell of every level (arXiv 1506.01497)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from imglish.structures.dense_boxes import AnchorLevels


@dataclass(frozen=True, kw_only=True, slots=True)
class AnchorShapes:
    """Sizes and shapes of the anchors of a cell.

    Args:
        ratios: Heights over widths.
        scales: Sides of a square one in cells: 8 means 8 strides.

    Raises:
        ValueError: There are none, or one is not above zero.
    """

    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    scales: tuple[float, ...] = (8.0,)

    def __post_init__(self) -> None:
        for name in ("ratios", "scales"):
            values = getattr(self, name)
            if not values or min(values) <= 0:
                raise ValueError(f"{name} of anchors must be above zero, one at least; got {values}")

    def __len__(self) -> int:
        """Anchors of a cell."""
        return len(self.ratios) * len(self.scales)


def octave_scales(scale: float, num_scales: int) -> tuple[float, ...]:
    """So many scales from one up to its double, that without, in equal ratios."""
    return tuple(scale * 2 ** (i / num_scales) for i in range(num_scales))


def cell_anchors(stride: int, shapes: AnchorShapes, device: torch.device | str | None = None) -> Tensor:
    """Anchors of the cell at (0, 0): float32 (A, 4), ratio by ratio, of each every scale."""
    heights = torch.tensor(shapes.ratios, dtype=torch.float32).sqrt()
    scales = torch.tensor(shapes.scales, dtype=torch.float32)
    half = torch.stack([1 / heights, heights], dim=1)[:, None] * stride * scales[:, None] / 2
    return torch.cat([-half, half], dim=2).flatten(0, 1).to(device)


def level_anchors(
    size: tuple[int, int], stride: int, shapes: AnchorShapes, device: torch.device | str | None = None
) -> Tensor:
    """Anchors of a whole level.

    They lie around the top left corner of their cell, (x * stride, y * stride), as in the official code
    (adapter FACTS, section 5).

    Args:
        size: (rows, columns) of the level.
        stride: Pixels of a cell.
        shapes: Of the anchors of a cell.
        device: Where they are made.

    Returns:
        float32 (rows * columns * A, 4): row by row, cell by cell, the anchors of a cell one after the other.
    """
    rows = torch.arange(size[0], device=device, dtype=torch.float32) * stride
    columns = torch.arange(size[1], device=device, dtype=torch.float32) * stride
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    corners = torch.stack([x, y, x, y], dim=-1).flatten(0, 1)
    return (corners[:, None] + cell_anchors(stride, shapes, device)).flatten(0, 1)


def pyramid_anchors(
    sizes: Mapping[int, tuple[int, int]], shapes: AnchorShapes, device: torch.device | str | None = None
) -> list[Tensor]:
    """Anchors of each level of a pyramid, whose (rows, columns) are given by stride."""
    return [level_anchors(size, stride, shapes, device) for stride, size in sizes.items()]


def cells_on_picture(
    size: tuple[int, int],
    stride: int,
    picture: tuple[int, int],
    num_anchors: int = 1,
    device: torch.device | str | None = None,
) -> Tensor:
    """Which anchors of a level belong to cells that lie on the picture, not on what pads it to its batch.

    Args:
        size: (rows, columns) of the level.
        stride: Pixels of a cell.
        picture: (height, width) of the picture in the batch; a cell with one pixel of it lies on it.
        num_anchors: Anchors of a cell.
        device: Where the answer is made.

    Returns:
        bool (rows * columns * num_anchors,), in the order of `level_anchors`, True on the picture.
    """
    rows, columns = (
        torch.arange(count, device=device) * stride < side for count, side in zip(size, picture, strict=True)
    )
    return (rows[:, None] & columns).flatten().repeat_interleave(num_anchors)


def inside_picture(anchors: Tensor, picture: tuple[int, int], border: float = 0) -> Tensor:
    """Which anchors (N, 4) reach less than ``border`` pixels beyond a picture (height, width): bool (N,)."""
    height, width = picture
    low = (anchors[:, :2] >= -border).all(dim=1)
    return low & (anchors[:, 2] < width + border) & (anchors[:, 3] < height + border)


def square_levels(
    sizes: Mapping[int, tuple[int, int]], scale: float, device: torch.device | str | None = None
) -> AnchorLevels:
    """One square anchor of so many cells for each cell, as ATSS and GFL have them: ``scale`` 8.

    Args:
        sizes: (rows, columns) of each level by stride.
        scale: Side of an anchor in cells.
        device: Where they are made.
    """
    shapes = AnchorShapes(ratios=(1.0,), scales=(scale,))
    anchors = pyramid_anchors(sizes, shapes, device)
    return AnchorLevels(tuple(anchors), tuple(sizes), tuple(sizes.values()))


def level_sizes(picture: tuple[int, int], strides: Sequence[int]) -> dict[int, tuple[int, int]]:
    """(rows, columns) by stride of the levels that pictures (height, width) give; both round up."""
    height, width = picture
    return {stride: (-(-height // stride), -(-width // stride)) for stride in strides}
