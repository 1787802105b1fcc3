"""BLEU of a set of captions (Papineni et al., ACL 2002), as COCO's evaluation reports it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from imglish.metrics.captioning.ngrams import Ngram, count_ngrams, split_at_spaces

ORDERS = 4
# COCO's evaluation adds these to matches and to totals, so that a set without a match has a small score, not
# zero.
_TO_MATCHES = 1e-15
_TO_TOTALS = 1e-9


def bleu(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> tuple[float, float, float, float]:
    """BLEU-1 to BLEU-4 of a whole set: clipped n-gram precision, geometric mean, penalty for brevity.

    Matches and lengths are summed over the set before anything is divided, so this is no mean over captions.
    Each candidate is held against the length of the reference nearest to its own, the shorter of two as near.

    Args:
        candidates: Words of one caption of each of N pictures.
        references: For each picture the words of its human captions, at least one.

    Returns:
        Four numbers in [0, 1]; all nearly 0 where there is no candidate.

    Raises:
        ValueError: If the numbers of pictures differ, or a picture has no reference.
    """
    matches, totals = [0] * ORDERS, [0] * ORDERS
    length = reference_length = 0
    for caption, human_captions in zip(candidates, references, strict=True):
        candidate, own_references = split_at_spaces(caption), [split_at_spaces(r) for r in human_captions]
        length += len(candidate)
        reference_length += min((abs(len(r) - len(candidate)), len(r)) for r in own_references)[1]
        for i in range(ORDERS):
            counts = count_ngrams(candidate, i + 1)
            allowed: Counter[Ngram] = Counter()
            for reference in own_references:
                allowed |= count_ngrams(reference, i + 1)
            matches[i] += (counts & allowed).total()
            totals[i] += counts.total()
    ratio = (length + _TO_MATCHES) / (reference_length + _TO_TOTALS)
    penalty = math.exp(min(0.0, 1 - 1 / ratio))
    logarithms = [
        math.log((right + _TO_MATCHES) / (total + _TO_TOTALS))
        for right, total in zip(matches, totals, strict=True)
    ]
    scores = [penalty * math.exp(sum(logarithms[: i + 1]) / (i + 1)) for i in range(ORDERS)]
    return scores[0], scores[1], scores[2], scores[3]
