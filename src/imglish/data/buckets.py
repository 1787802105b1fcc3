"""Which texts of a batch are padded to one length."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from imglish.structures.batches import Bucket


def cut_into_buckets(lengths: Sequence[int], count: int) -> tuple[Bucket, ...]:
    """Cut the texts of a batch, sorted by length, where the fewest padded tokens are needed.

    The number of buckets does not depend on the lengths: ranks that share a model's weights (FSDP2) must call
    its blocks equally often. Texts of one length are halved where there are too few lengths.

    Args:
        lengths: Tokens of each text, shortest first; in any order where one bucket is asked for.
        count: Buckets; no more are made than there are texts.
    """
    longest, rows = np.unique(np.asarray(lengths, dtype=np.int64), return_counts=True)
    before = np.concatenate([[0], np.cumsum(rows)])  # texts before each cut
    # From cut s to cut e: all texts between are as long as the longest of them.
    filled = (before[None, 1:] - before[:-1, None]) * longest[None, :]
    filled = np.where(np.tri(len(longest), dtype=bool).T, filled, np.inf)
    least = np.full(len(longest) + 1, np.inf)  # tokens up to each cut, with the buckets so far
    least[0] = 0
    starts = []  # by bucket and cut: where the bucket that ends there starts
    for _ in range(min(count, len(longest))):
        tokens = least[:-1, None] + filled
        starts.append(tokens.argmin(axis=0))
        least = np.concatenate([[np.inf], tokens.min(axis=0)])
    cuts = [len(longest)]
    for start in reversed(starts):
        cuts.append(int(start[cuts[-1] - 1]))
    edges = [int(before[cut]) for cut in sorted(cuts)]
    while len(edges) <= min(count, len(lengths)):
        widest = int(np.argmax(np.diff(edges)))
        edges.insert(widest + 1, (edges[widest] + edges[widest + 1]) // 2)
    return tuple(
        Bucket(end - start, max(lengths[start:end]), sum(lengths[start:end]))
        for start, end in pairwise(edges)
    )
