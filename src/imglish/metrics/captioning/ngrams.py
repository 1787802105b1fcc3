"""Sequences of words, counted: what BLEU and CIDEr are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

Ngram = tuple[str, ...]


def split_at_spaces(words: Sequence[str]) -> list[str]:
    """Words without any white space in them.

    For the tokenizer ``1 1/2`` is one word, with a no-break space in it. In COCO's evaluation BLEU and CIDEr
    take it for two words, but ROUGE-L for one.
    """
    return " ".join(words).split()


def count_ngrams(words: Sequence[str], order: int) -> Counter[Ngram]:
    """How often each run of ``order`` words stands in a text; empty where the text is shorter."""
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))
