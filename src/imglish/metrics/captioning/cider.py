"""CIDEr of captions (Vedantam et al., CVPR 2015), in the form CIDEr-D that COCO's evaluation reports."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from imglish.metrics.captioning.ngrams import Ngram, count_ngrams, split_at_spaces

ORDERS = 4
SIGMA = 6.0  # words by which a length may differ before the score falls to exp(-1/2)
_SCALE = 10.0


def cider(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> list[float]:
    """Consensus of each caption with the human ones, one number for each; COCO reports their mean.

    N-grams of one to four words are weighted by how often they stand in the caption and by how few pictures
    have them in any reference. The similarity to a reference is the cosine of those weights with the
    candidate's clipped to the reference's, times a Gaussian of the difference of lengths (section 5).

    Rarity is judged within the given references, so a score means something only beside others of the same
    set; with a single picture every weight is 0 and so is the score.

    Args:
        candidates: Words of one caption of each of N pictures.
        references: For each picture the words of its human captions, at least one.

    Returns:
        N numbers in [0, 10].

    Raises:
        ValueError: If the numbers of pictures differ, or a picture has no reference.
    """
    if not all(references):
        raise ValueError("every picture needs at least one reference caption")
    split_references = [[split_at_spaces(reference) for reference in own] for own in references]
    document_frequency = _document_frequency(split_references)
    pictures = len(references)
    scores = []
    for candidate, own_references in zip(candidates, split_references, strict=True):
        weighed = _weigh(split_at_spaces(candidate), document_frequency, pictures)
        similarities = [
            _similarity(weighed, _weigh(reference, document_frequency, pictures))
            for reference in own_references
        ]
        scores.append(_SCALE * sum(similarities) / len(similarities))
    return scores


@dataclass(frozen=True, slots=True)
class _Weighed:
    """A text as weights of its n-grams, by order, with the norm of each order."""

    weights: tuple[dict[Ngram, float], ...]
    norms: tuple[float, ...]
    length: int


def _document_frequency(references: Sequence[Sequence[Sequence[str]]]) -> Counter[Ngram]:
    """In the references of how many pictures an n-gram stands."""
    frequency: Counter[Ngram] = Counter()
    for captions in references:
        frequency.update(
            {gram for words in captions for n in range(ORDERS) for gram in count_ngrams(words, n + 1)}
        )
    return frequency


def _weigh(words: Sequence[str], document_frequency: Counter[Ngram], pictures: int) -> _Weighed:
    # An n-gram that no reference has counts as one that a single picture has.
    weights = tuple(
        {
            gram: count * (math.log(pictures) - math.log(max(document_frequency[gram], 1)))
            for gram, count in count_ngrams(words, n + 1).items()
        }
        for n in range(ORDERS)
    )
    norms = tuple(math.sqrt(sum(weight**2 for weight in order.values())) for order in weights)
    return _Weighed(weights, norms, len(words))


def _similarity(candidate: _Weighed, reference: _Weighed) -> float:
    """Mean over the orders, in [0, 1]."""
    total = 0.0
    for n in range(ORDERS):
        theirs, norm = reference.weights[n], candidate.norms[n] * reference.norms[n]
        if norm:
            total += (
                sum(
                    min(weight, theirs.get(gram, 0.0)) * theirs.get(gram, 0.0)
                    for gram, weight in candidate.weights[n].items()
                )
                / norm
            )
    difference = candidate.length - reference.length
    return total / ORDERS * math.exp(-(difference**2) / (2 * SIGMA**2))
