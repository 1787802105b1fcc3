"""Reading maps at single points (PointRend, arXiv 1912.08193)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

_PIXELS_AT_ONCE = 2**24  # of masks that are turned into numbers together
DrawPoints = Callable[[int, int], Tensor]  # from N and P to uniform (x, y) in [0, 1), (N, P, 2)


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Read maps (N, C, H, W) bilinearly at points (N, P, 2) as (x, y) in [0, 1]: (N, C, P).

    Pixel centres lie at (i + 0.5) / W; beyond the outermost ones the map fades to zero.
    """
    grid = (2 * points.to(maps.dtype) - 1)[:, None]
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, :, 0]


def sample_masks(masks: Tensor, numbers: Tensor, points: Tensor, dtype: torch.dtype) -> Tensor:
    """Read some masks at points, each at its own; as numbers, all of them would fill gigabytes.

    Args:
        masks: bool (G, H, W).
        numbers: Which are read, int64 (N,).
        points: (N, P, 2) as in `sample_points`, or (1, P, 2) where all are read at the same.
        dtype: What is computed in.

    Returns:
        (N, P), in [0, 1].
    """
    if len(numbers) == 0:
        return points.new_zeros(0, points.shape[1], dtype=dtype)
    count = max(1, _PIXELS_AT_ONCE // max(1, masks[0].numel()))
    places = points.expand(len(numbers), -1, -1).split(count)
    return torch.cat(
        [
            sample_points(masks[some][:, None].to(dtype), place)[:, 0]
            for some, place in zip(numbers.split(count), places, strict=True)
        ]
    )


def uncertain_points(
    logits: Tensor, num_points: int, *, oversample: float, importance: float, draw: DrawPoints
) -> Tensor:
    """Choose points where a mask hesitates, and some anywhere.

    Args:
        logits: Masks (N, H, W); near zero is uncertain.
        num_points: How many of each mask.
        oversample: This many times as many are drawn to choose the uncertain ones from.
        importance: Share of points that are the most uncertain of those; the others are drawn anew.
        draw: Uniform points; called once for the candidates and once for the rest.

    Returns:
        Points (N, num_points, 2) as (x, y), the uncertain ones first.
    """
    num_uncertain = int(importance * num_points)
    candidates = draw(len(logits), int(oversample * num_points))
    certainty = sample_points(logits[:, None], candidates)[:, 0].abs()
    chosen = certainty.topk(num_uncertain, dim=1, largest=False).indices
    points = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    if num_uncertain == num_points:
        return points
    return torch.cat([points, draw(len(logits), num_points - num_uncertain)], dim=1)
