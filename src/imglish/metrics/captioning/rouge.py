"""ROUGE-L of captions (Lin, ACL workshop 2004), as COCO's evaluation reports it."""

from __future__ import annotations

from collections.abc import Sequence

BETA = 1.2  # how much more recall counts than precision


def rouge_l(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> list[float]:
    """F-measure of the longest common subsequence of words, one for each caption; COCO reports their mean.

    Precision and recall are each the best over the references, which need not be the same one.

    Args:
        candidates: Words of one caption of each of N pictures.
        references: For each picture the words of its human captions, at least one.

    Returns:
        N numbers in [0, 1].

    Raises:
        ValueError: If the numbers of pictures differ, or a picture has no reference.
    """
    return [
        _best_f_measure(candidate, own_references)
        for candidate, own_references in zip(candidates, references, strict=True)
    ]


def _best_f_measure(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    common = [longest_common_subsequence(candidate, reference) for reference in references]
    if max(common) == 0:
        return 0.0
    precision = max(common) / len(candidate)
    recall = max(shared / max(len(r), 1) for shared, r in zip(common, references, strict=True))
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Most words that stand in both texts in the same order, gaps allowed."""
    best = [0] * (len(b) + 1)  # of the words of `a` so far and the first j words of `b`
    for word in a:
        before = 0  # best[j] of the row above, one place to the left
        for j, other in enumerate(b, start=1):
            above = best[j]
            best[j] = before + 1 if word == other else max(above, best[j - 1])
            before = above
    return best[-1]
