"""The parts of metrics; over two ranks they are tested in tests/distributed/test_scoring.py."""

from __future__ import annotations

import torch

from imglish.metrics.base import first_of_each, join_over_ranks, sum_over_ranks


def test_the_first_place_of_each_distinct_id_is_found() -> None:
    ids, first = first_of_each(torch.tensor([7, 3, 7, 5, 3]))
    assert ids.tolist() == [3, 5, 7]
    assert first.tolist() == [1, 3, 0]


def test_nothing_has_no_first_place() -> None:
    ids, first = first_of_each(torch.zeros(0, dtype=torch.int64))
    assert ids.tolist() == first.tolist() == []


def test_one_rank_has_everything_already() -> None:
    rows = torch.arange(6.0).view(3, 2)
    assert sum_over_ranks(rows) is rows and join_over_ranks(rows) is rows
