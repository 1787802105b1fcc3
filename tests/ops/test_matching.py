"""The assignment is the cheapest there is, as scipy finds it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from imglish.ops.matching import assign


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (2, 7), (7, 2), (10, 100), (100, 12), (40, 40)])
@pytest.mark.parametrize("seed", range(4))
def test_the_pairs_are_those_of_scipy(size: tuple[int, int], seed: int) -> None:
    costs = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 10
    rows, columns = assign(costs)
    expected = linear_sum_assignment(costs.numpy())
    assert rows.tolist() == expected[0].tolist() and columns.tolist() == expected[1].tolist()


@pytest.mark.parametrize("seed", range(30))
def test_where_costs_are_equal_the_total_is_still_the_least(seed: int) -> None:
    draw = np.random.default_rng(seed)
    costs = torch.from_numpy(draw.integers(-2, 3, draw.integers(1, 9, 2)).astype(float))
    rows, columns = assign(costs)
    assert len(rows) == min(costs.shape)
    assert len(set(rows.tolist())) == len(rows) and len(set(columns.tolist())) == len(columns)
    best = linear_sum_assignment(costs.numpy())
    assert costs[rows, columns].sum() == costs.numpy()[best].sum()


def test_rows_come_in_ascending_order() -> None:
    rows, columns = assign(torch.tensor([[5.0, 4.0], [0.0, 9.0], [7.0, 1.0]]))
    assert (rows.tolist(), columns.tolist()) == ([1, 2], [0, 1])


@pytest.mark.parametrize("size", [(0, 3), (3, 0), (0, 0)])
def test_nothing_is_matched_with_nothing(size: tuple[int, int]) -> None:
    rows, columns = assign(torch.zeros(size))
    assert rows.shape == columns.shape == (0,) and rows.dtype == torch.int64


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_costs_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="infinite or no number"):
        assign(torch.tensor([[1.0, value]]))
