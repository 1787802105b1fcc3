from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from imglish.data.loader import Source
from imglish.data.shape_groups import GroupedSource, standing
from imglish.errors import DataFormatError

SIZES = np.array([[3, 2] if number % 3 == 0 else [2, 3] for number in range(20)])  # 7 standing, 13 lying


@dataclass(frozen=True)
class Numbers:
    """Samples that are their own numbers, with a draw; one is damaged."""

    damaged: int = -1

    def __len__(self) -> int:
        return len(SIZES)

    def get(self, index: int, rng: np.random.Generator) -> tuple[int, float]:
        if index == self.damaged:
            raise DataFormatError(f"sample {index} is damaged")
        return index, float(rng.random())


def source(per_rank: int = 2, **changes: int) -> GroupedSource:
    return GroupedSource(dataset=Numbers(**changes), per_rank=per_rank, seed=4, groups=standing(SIZES))


def members(batch: list[tuple[int, float]]) -> frozenset[int]:
    return frozenset(number for number, _ in batch)


def test_pictures_higher_than_wide_stand() -> None:
    assert standing(np.array([[2, 3], [3, 2], [3, 3]])).tolist() == [0, 1, 1]


@pytest.mark.parametrize("per_rank", [1, 2, 3])
def test_a_batch_has_one_group_and_an_epoch_every_sample(per_rank: int) -> None:
    ours = source(per_rank)
    batches = -(-13 // per_rank) + -(-7 // per_rank)
    for epoch in range(2):
        seen = Counter[int]()
        for step in range(epoch * batches, (epoch + 1) * batches):
            numbers = [number for number, _ in ours.samples(step, 0, 1)[0]]
            assert len({number % 3 == 0 for number in numbers}) == 1
            seen.update(numbers)
        assert set(seen) == set(range(20)) and seen.total() == batches * per_rank
        assert max(seen.values()) <= 2
    first, second = ([ours.samples(step + off, 0, 1)[0] for step in range(batches)] for off in (0, batches))
    # Another epoch has another order, and other samples meet.
    assert first != second
    assert per_rank == 1 or {members(batch) for batch in first} != {members(batch) for batch in second}


def test_ranks_share_an_epoch_and_batches_are_pure() -> None:
    alone = [source().samples(step, 0, 1)[0] for step in range(6)]
    together = [source().samples(step, rank, 2)[0] for step in range(3) for rank in range(2)]
    assert alone == together and len({draw for batch in alone for _, draw in batch}) == 12


def test_a_damaged_sample_is_replaced_and_told() -> None:
    lines = [line for step in range(11) for line in source(damaged=6).samples(step, 0, 1)[1]]
    assert lines == ["sample 6 is damaged"]


def test_what_is_wrong_is_refused() -> None:
    with pytest.raises(ValueError, match="3 groups for 20 samples"):
        GroupedSource(dataset=Numbers(), per_rank=2, seed=0, groups=np.zeros(3, np.int64))
    assert isinstance(source(), Source)
