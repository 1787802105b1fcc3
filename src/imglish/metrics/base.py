"""What every metric offers, sums over ranks, and samples that were seen twice."""

from __future__ import annotations

from typing import Protocol, TypeVar

import torch
from torch import Tensor, distributed as dist

T = TypeVar("T")


class Metric(Protocol):
    """A score that is built up batch by batch."""

    def reset(self) -> None:
        """Forget everything."""
        ...

    def reduce(self) -> None:
        """Join what all ranks have seen."""
        ...

    def compute(self) -> dict[str, float]:
        """Named numbers."""
        ...


def sum_over_ranks(counts: Tensor) -> Tensor:
    """Sum a tensor over all ranks; the same tensor where there is one."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        counts = counts.clone()
        dist.all_reduce(counts)
    return counts


def join_over_ranks(rows: Tensor) -> Tensor:
    """Concatenate the rows (N, ...) of all ranks, which may hold different numbers of them."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return rows
    parts: list[Tensor | None] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, rows)
    return torch.cat([part for part in parts if part is not None])


def gather_over_ranks(mine: T) -> list[T]:
    """What each rank has, in the order of ranks: any Python object, and one of it where there is one rank."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return [mine]
    parts: list[T | None] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, mine)
    return [part for part in parts if part is not None]


def first_of_each(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct ids of int64 (N,) in ascending order, and where each stands first, both (K,)."""
    unique, inverse = torch.unique(ids, return_inverse=True)
    first = torch.full((len(unique),), len(ids)).scatter_reduce(
        0, inverse, torch.arange(len(ids)), reduce="amin"
    )
    return unique, first
