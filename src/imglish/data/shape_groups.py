"""Batches of pictures of one shape: lying ones together and standing ones together.

Pictures of a batch are padded to the largest, so a lying and a standing one would both become squares, with
two thirds more pixels at 1333 x 800. mmdetection's GroupSampler keeps them apart in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imglish.data.loader import Source, shuffled


@dataclass(frozen=True, kw_only=True)
class GroupedSource(Source):
    """An endless, shuffled stream in which all samples of a rank's batch are of one group.

    An epoch has each sample once, and some twice where a group does not fill its last batch.

    Args:
        groups: int64 (len(dataset),), the group of each sample, from 0.

    Raises:
        ValueError: ``groups`` has another length than the data set.
    """

    groups: NDArray[np.int64]
    _members: tuple[NDArray[np.int64], ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.groups) != len(self.dataset):
            raise ValueError(f"there are {len(self.groups)} groups for {len(self.dataset)} samples")
        members = tuple(np.flatnonzero(self.groups == group) for group in np.unique(self.groups))
        object.__setattr__(self, "_members", members)

    def samples(self, micro_step: int, rank: int, world_size: int) -> tuple[list[Any], list[str]]:
        """The samples of one rank's batch, and a line for each damaged one."""
        members = self._members
        batches = [-(-len(group) // self.per_rank) for group in members]
        number = micro_step * world_size + rank
        epoch, place = divmod(number, sum(batches))
        batch = shuffled(place, sum(batches), (self.seed, self.stream, epoch))
        group = int(np.searchsorted(np.cumsum(batches), batch, side="right"))
        first = (batch - sum(batches[:group])) * self.per_rank
        found, skipped = [], []
        for row in range(self.per_rank):
            place = (first + row) % len(members[group])
            chosen = shuffled(place, len(members[group]), (self.seed, self.stream, epoch, group + 1))
            sample, lines = self.sample(number * self.per_rank + row, int(members[group][chosen]))
            found.append(sample)
            skipped += lines
        return found, skipped


def standing(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """1 for pictures that are no wider than high, else 0, of (height, width) (N, 2): int64 (N,)."""
    return (sizes[:, 0] >= sizes[:, 1]).astype(np.int64)
