"""Cutting maps into windows that attention stays within, and putting them together again.

Shapes: B batch, H rows, W columns, C channels, h x w a window, n windows of a picture.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from imglish.ops.sizes import same_size


def partition_windows(x: Tensor, window: tuple[int, int]) -> Tensor:
    """Cut a map into windows, row by row of windows.

    Args:
        x: (B, H, W, C). Sides that do not divide by the window's are padded with zeros at the bottom and the
            right; nothing marks what is padding.
        window: (height, width).

    Returns:
        (B x n, h x w, C).
    """
    height, width = window
    rows, columns = -(-x.shape[1] // height), -(-x.shape[2] // width)
    down, right = rows * height - x.shape[1], columns * width - x.shape[2]
    if not same_size((down, right), (0, 0)):
        x = F.pad(x, (0, 0, 0, right, 0, down))
    x = x.unflatten(2, (columns, width)).unflatten(1, (rows, height))  # (B, rows, h, columns, w, C)
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def merge_windows(windows: Tensor, window: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Undo `partition_windows`, padding cut off.

    Args:
        windows: (B x n, h x w, C).
        window: (height, width).
        size: (H, W) of the map.

    Returns:
        (B, H, W, C).
    """
    height, width = window
    rows, columns = -(-size[0] // height), -(-size[1] // width)
    x: Tensor = windows.unflatten(1, window).unflatten(0, (-1, rows, columns))
    x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # from (B, rows, columns, h, w, C)
    return x[:, : size[0], : size[1]]
