"""Where a patch is: a bias on attention by offset (BEiT, section 3.1), absolute positions, and other grids.

Absolute positions are resampled at run time as BEiT v2 does (`resample_positions`) or, slightly otherwise, as
ViT-Adapter does and as checkpoints are loaded (`resize_positions`); tables of offsets as checkpoints are
loaded (`resize_relative_positions`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.ops.sizes import same_size

# Rows of a table of relative positions that concern the class token.
NUM_CLASS_OFFSETS = 3

# Where the official loaders look for the ratio of their progression, and how far they narrow it down.
_RATIOS = (1.01, 1.5)
_RATIO_STEP = 1e-6


class RelativePositionBias(nn.Module):
    """A learned bias for each head and each offset between two patches.

    The table has a row for each of the (2 rows - 1) x (2 columns - 1) offsets, and three last rows: class
    token to patch, patch to class token, class token to itself.

    Args:
        grid_size: (rows, columns) of patches, of a picture or of a window.
        num_heads: Attention heads.
        class_token: False has neither the three last rows nor a class token among queries and keys.
        index: `relative_position_index` of the grid, to be shared with other blocks (80 MB of a picture of
            896 pixels); None makes an own one.
    """

    def __init__(
        self,
        grid_size: tuple[int, int],
        num_heads: int,
        *,
        class_token: bool = True,
        index: Tensor | None = None,
    ) -> None:
        super().__init__()
        rows, columns = grid_size
        self.grid_size, self.class_token = grid_size, class_token
        num_rows = (2 * rows - 1) * (2 * columns - 1) + (NUM_CLASS_OFFSETS if class_token else 0)
        self.table = nn.Parameter(torch.zeros(num_rows, num_heads))
        if index is None:
            index = relative_position_index(grid_size, class_token=class_token)
        self.register_buffer("index", index, persistent=False)
        self.index: Tensor

    def forward(self, grid: tuple[int, int] | None = None) -> Tensor:
        """Bias (heads, 1 + N, 1 + N), rows are queries, class token first if there is one.

        Args:
            grid: (rows, columns) of the picture; None is the table's own. The table is resampled for
                another, as where a checkpoint is loaded (`resize_relative_positions`).
        """
        table: Tensor = self.table
        index = self.index
        if grid is not None and grid != self.grid_size:
            table = resize_relative_positions(table, self.grid_size, grid, class_token=self.class_token)
            index = relative_position_index(grid, class_token=self.class_token).to(table.device)
        # Head by head, so that the result lies as attention reads it.
        bias: Tensor = table.t().index_select(1, index.flatten()).unflatten(1, index.shape)
        return bias


def relative_position_index(grid_size: tuple[int, int], *, class_token: bool = True) -> Tensor:
    """Row of the table for each pair of query and key.

    Args:
        grid_size: (rows, columns) of patches.
        class_token: True has a class token first, whose pairs have the last three rows.

    Returns:
        int64 (1 + N, 1 + N), or (N, N) without class token.
    """
    rows, columns = grid_size
    num_offsets = (2 * rows - 1) * (2 * columns - 1)
    y = torch.arange(rows).repeat_interleave(columns)
    x = torch.arange(columns).repeat(rows)
    index = torch.empty(1 + rows * columns, 1 + rows * columns, dtype=torch.int64)
    below, right = y[:, None] - y + rows - 1, x[:, None] - x + columns - 1
    index[1:, 1:] = below * (2 * columns - 1) + right
    index[0, :] = num_offsets
    index[:, 0] = num_offsets + 1
    index[0, 0] = num_offsets + 2
    return index if class_token else index[1:, 1:].contiguous()


def resample_positions(
    positions: Tensor, old: tuple[int, int], new: tuple[int, int], *, num_prefix: int = 1
) -> Tensor:
    """Fit a table of absolute positions to another grid, as BEiT v2 does at run time.

    Args:
        positions: (1, prefix + rows x columns, C), class token first, which stays as it is.
        old: Its (rows, columns).
        new: The (rows, columns) wanted.
        num_prefix: Rows in front that are no patch's.

    Returns:
        (1, prefix + new rows x new columns, C), bicubic. The scale is that of a tenth of a patch more, as in
        the official code; sampling by the sizes alone gives slightly other values.
    """
    if same_size(old, new):
        return positions
    grid = positions[:, num_prefix:].transpose(1, 2).unflatten(2, old)
    scale = ((new[0] + 0.1) / old[0], (new[1] + 0.1) / old[1])
    grid = F.interpolate(grid, scale_factor=scale, mode="bicubic").flatten(2).transpose(1, 2)
    return torch.cat([positions[:, :num_prefix], grid], dim=1)


def resize_positions(
    positions: Tensor, old: tuple[int, int], new: tuple[int, int], *, num_prefix: int = 1
) -> Tensor:
    """Fit a table of absolute positions to another grid, as the official loaders do (FACTS, section 9).

    The official ViT-Adapter does the same in each forward pass (its FACTS, section 2).

    Args:
        positions: (1, prefix + rows x columns, C), class token first, which stays as it is.
        old: Its (rows, columns).
        new: The (rows, columns) wanted.
        num_prefix: Rows in front that are no patch's.

    Returns:
        (1, prefix + new rows x new columns, C), bicubic by the sizes alone, unlike `resample_positions`.
    """
    if same_size(old, new):
        return positions
    grid = positions[:, num_prefix:].transpose(1, 2).unflatten(2, old)
    grid = F.interpolate(grid, size=new, mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    return torch.cat([positions[:, :num_prefix], grid], dim=1)


def resize_relative_positions(
    table: Tensor, old: tuple[int, int], new: tuple[int, int], *, class_token: bool = True
) -> Tensor:
    """Fit a table of relative positions to another grid, as the official loaders do (FACTS, section 9).

    The old offsets are laid out so that their distances grow as a geometric progression from 1 at the centre
    to the farthest new offset at the rim: near neighbours keep the bias they had. Through them goes a cubic
    spline in both directions. The official code knows square grids only; others are treated side by side.

    Args:
        table: ((2 rows - 1) x (2 columns - 1) + 3, heads); the last three rows, of the class token, stay.
        old: Its (rows, columns).
        new: The (rows, columns) wanted.
        class_token: False has a table without those three rows.

    Returns:
        ((2 new rows - 1) x (2 new columns - 1) + 3, heads), or three rows less, of the table's type.
    """
    if old == new:
        return table
    num_offsets = len(table) - (NUM_CLASS_OFFSETS if class_token else 0)
    offsets, of_class = table[:num_offsets], table[num_offsets:]
    grid = offsets.unflatten(0, (2 * old[0] - 1, 2 * old[1] - 1)).double()
    down, right = (_spline_between_sides(a, b).to(table.device) for a, b in zip(old, new, strict=True))
    resized = torch.einsum("ay,yxh,bx->abh", down, grid, right)
    return torch.cat([resized.flatten(0, 1).to(table.dtype), of_class])


def _spline_between_sides(old: int, new: int) -> Tensor:
    """Weights (2 new - 1, 2 old - 1) of the old offsets of one side in each new one, float64."""
    if old == new:
        return torch.eye(2 * old - 1, dtype=torch.float64)
    steps = _ratio(old - 1, new - 1) ** torch.arange(old - 1, dtype=torch.float64)
    distances = steps.cumsum(0)
    known = torch.cat([-distances.flip(0), torch.zeros(1, dtype=torch.float64), distances])
    wanted = torch.arange(1 - new, new, dtype=torch.float64)
    # What lies beyond the farthest known offset has its bias; the ratio rarely leaves any.
    return _spline_weights(known, wanted.clamp(known[0], known[-1]))


def _ratio(num_steps: int, farthest: int) -> float:
    """Ratio of a progression from 1 whose sum reaches the farthest offset, found by bisection."""
    low, high = _RATIOS
    ratio = high
    while high - low > _RATIO_STEP:
        ratio = (low + high) / 2
        if (1 - ratio**num_steps) / (1 - ratio) > farthest:
            high = ratio
        else:
            low = ratio
    return ratio


def _spline_weights(known: Tensor, wanted: Tensor) -> Tensor:
    """Weights of known points in the values at wanted ones, of the spline through all points.

    Args:
        known: float64 (n,), rising.
        wanted: float64 (m,), within the known.

    Returns:
        float64 (m, n). The spline is cubic without knots at the second and the last but one point ("not a
        knot"), as of FITPACK; fewer than four points give the polynomial through them.
    """
    if len(known) == 1:
        return torch.ones(len(wanted), 1, dtype=torch.float64)
    degree = min(3, len(known) - 1)
    inner = known[2:-2] if degree == 3 else known[:0]
    knots = torch.cat([known[:1].expand(degree + 1), inner, known[-1:].expand(degree + 1)])
    through = _spline_basis(known, knots, degree)
    weights: Tensor = torch.linalg.solve(through, _spline_basis(wanted, knots, degree), left=False)
    return weights


def _spline_basis(points: Tensor, knots: Tensor, degree: int) -> Tensor:
    """B-splines of a degree at some points, (points, knots - degree - 1), after Cox and de Boor."""
    x = points[:, None]
    # The last interval that is not empty is closed, so that the last point belongs to one.
    closed = (x == knots[-1]) & (knots[1:] == knots[-1]) & (knots[:-1] < knots[-1])
    basis = ((knots[:-1] <= x) & (x < knots[1:]) | closed).double()
    for k in range(1, degree + 1):
        rising = _share(x - knots[: -k - 1], knots[k:-1] - knots[: -k - 1])
        falling = _share(knots[k + 1 :] - x, knots[k + 1 :] - knots[1:-k])
        basis = rising * basis[:, :-1] + falling * basis[:, 1:]
    return basis


def _share(distance: Tensor, width: Tensor) -> Tensor:
    """Distance over width; 0 where knots coincide, between which there is no spline of a lower degree."""
    return torch.where(width > 0, distance / width.where(width > 0, 1.0), 0.0)
