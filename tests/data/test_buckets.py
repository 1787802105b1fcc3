from __future__ import annotations

from itertools import combinations, pairwise

import pytest

from imglish.data.buckets import cut_into_buckets

LENGTHS = [3, 3, 4, 7, 7, 8, 12, 20]


def padded(lengths: list[int], edges: tuple[int, ...]) -> int:
    return sum((end - start) * lengths[end - 1] for start, end in pairwise(edges))


@pytest.mark.parametrize("count", range(1, 8))
def test_no_other_cuts_need_fewer_padded_tokens(count: int) -> None:
    found = cut_into_buckets(LENGTHS, count)
    inner = combinations(range(1, len(LENGTHS)), count - 1)
    least = min(padded(LENGTHS, (0, *cuts, len(LENGTHS))) for cuts in inner)
    assert sum(bucket.rows * bucket.length for bucket in found) == least
    assert len(found) == count


def test_a_bucket_tells_of_its_rows() -> None:
    assert cut_into_buckets(LENGTHS, 3) == ((3, 4, 10), (3, 8, 22), (2, 20, 32))


@pytest.mark.parametrize("lengths", [[5] * 6, [5, 5, 5, 5, 5, 9], [2, 3, 4, 5, 6, 7]])
def test_the_number_of_buckets_does_not_depend_on_the_lengths(lengths: list[int]) -> None:
    """Ranks that share a model's weights call its blocks equally often, whatever their texts."""
    for count in range(1, 9):
        found = cut_into_buckets(lengths, count)
        assert len(found) == min(count, len(lengths)) and all(bucket.rows > 0 for bucket in found)
        start = 0
        for bucket in found:
            rows = lengths[start : start + bucket.rows]
            assert (bucket.length, bucket.tokens) == (max(rows), sum(rows))
            start += bucket.rows
        assert start == len(lengths)


def test_one_bucket_needs_no_order_and_no_text_no_bucket() -> None:
    assert cut_into_buckets([4, 9, 2], 1) == ((3, 9, 15),)
    assert cut_into_buckets([], 4) == ()
