"""What a one-stage detector says about every cell of every level, and what it should have said.

N_l are the cells of a level, row by row; N those of all levels, fine to coarse.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class AnchorLevels(NamedTuple):
    """One square anchor for each cell.

    Args:
        anchors: (N_l, 4) of each level, in pixels; the same for all pictures of a batch.
        strides: Pixels of a cell.
        grids: (rows, columns) of the levels.
    """

    anchors: tuple[Tensor, ...]
    strides: tuple[int, ...]
    grids: tuple[tuple[int, int], ...]


class AtssPredictions(NamedTuple):
    """Of ATSS (arXiv 1912.02424).

    Args:
        levels: Anchors.
        classes: Logits (B, N_l, num_classes) of each level.
        deltas: Predicted changes of the anchors, (B, N_l, 4), as `ops.box_coding` means them with the
            standard deviations ``ATSS_STDS``.
        centerness: Logits (B, N_l).
    """

    levels: AnchorLevels
    classes: tuple[Tensor, ...]
    deltas: tuple[Tensor, ...]
    centerness: tuple[Tensor, ...]


class GflPredictions(NamedTuple):
    """Of GFL (arXiv 2006.04388).

    Args:
        levels: Anchors, only the centres of which are looked at in decoding.
        classes: Logits (B, N_l, num_classes) of each level; a score says how good the box is as well.
        distributions: Logits (B, N_l, 4, R + 1) of the distances 0 to R.
        distances: What they mean: how far the left, top, right and bottom side is, in cells, (B, N_l, 4).
    """

    levels: AnchorLevels
    classes: tuple[Tensor, ...]
    distributions: tuple[Tensor, ...]
    distances: tuple[Tensor, ...]


DensePredictions = AtssPredictions | GflPredictions
ATSS_STDS = (0.1, 0.1, 0.2, 0.2)


class DenseTargets(NamedTuple):
    """What the cells of a batch have to find.

    Args:
        labels: int64 (B, N); -1 is background.
        boxes: Of the objects, (B, N, 4); anything where there is none.
        counted: bool (B, N), False where a cell takes no part in the loss: it lies on the padding or in a
            crowd.
        num_found: What sums over cells are divided by, int64 (): cells with an object, at least one for each
            picture.
    """

    labels: Tensor
    boxes: Tensor
    counted: Tensor
    num_found: Tensor
