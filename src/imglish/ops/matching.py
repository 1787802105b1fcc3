"""The cheapest assignment of rows to columns, exactly (Jonker and Volgenant; Crouse 2016)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def assign(costs: Tensor) -> tuple[Tensor, Tensor]:
    """Match each row with a column of its own, or each column with a row, at the least total cost.

    Args:
        costs: (N, M), finite.

    Returns:
        Row and column numbers of the min(N, M) pairs, int64 on the CPU, in ascending order of rows.

    Raises:
        ValueError: A cost is infinite or no number.
    """
    matrix = costs.detach().to("cpu", torch.float64).numpy()
    if not np.isfinite(matrix).all():
        raise ValueError("a cost of the assignment is infinite or no number")
    swapped = matrix.shape[0] > matrix.shape[1]
    columns = _assign_rows(matrix.T if swapped else matrix)
    rows = np.arange(len(columns))
    if swapped:
        rows, columns = columns, rows
    order = np.argsort(rows)
    return torch.from_numpy(rows[order]), torch.from_numpy(columns[order])


def _assign_rows(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """The column of each row, of which there are no more than columns.

    Rows are added one by one, each along the cheapest alternating path to a free column; ``row_price`` and
    ``column_price`` keep all reduced costs at or above zero, which makes that a walk of Dijkstra's.
    """
    num_rows, num_columns = costs.shape
    row_price, column_price = np.zeros(num_rows), np.zeros(num_columns)
    column_of = np.full(num_rows, -1, dtype=np.int64)
    row_of = np.full(num_columns, -1, dtype=np.int64)
    for start in range(num_rows):
        distance = np.full(num_columns, np.inf)
        came_from = np.full(num_columns, -1, dtype=np.int64)
        done = np.zeros(num_columns, dtype=np.bool_)
        reached, row, gone = [start], start, 0.0
        while True:
            through = gone + costs[row] - row_price[row] - column_price
            nearer = ~done & (through < distance)
            distance[nearer], came_from[nearer] = through[nearer], row
            open_distance = np.where(done, np.inf, distance)
            gone = open_distance.min()
            ties = np.flatnonzero(open_distance == gone)
            free = ties[row_of[ties] < 0]
            column = int(free[0] if len(free) else ties[0])
            done[column] = True
            if row_of[column] < 0:
                break
            row = int(row_of[column])
            reached.append(row)
        row_price[start] += gone
        others = np.array(reached[1:], dtype=np.int64)
        row_price[others] += gone - distance[column_of[others]]
        column_price[done] -= gone - distance[done]
        while column >= 0:
            row = int(came_from[column])
            row_of[column] = row
            column_of[row], column = column, int(column_of[row])
    return column_of
