"""Hiding words, for masked modelling and for caption generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from imglish.structures.batches import IGNORE

JUDGEMENTS = ("yes.", "no.")


class MaskedIds(NamedTuple):
    """A text with hidden tokens: ids as the model sees them, and targets, IGNORE where nothing is hidden."""

    token_ids: list[int]
    targets: list[int]


def mask_words(
    token_ids: Sequence[int], *, share: float, mask_id: int, special: frozenset[int], rng: np.random.Generator
) -> MaskedIds:
    """Replace a share of the words by the mask token (BEiT-3, section 2.2).

    Special tokens are never hidden; at least one word is.

    Args:
        token_ids: Ids with special tokens.
        share: Share of words to hide, in (0, 1].
        mask_id: Id of the mask token.
        special: Ids that are never hidden.
        rng: Source of the draw.
    """
    words = [i for i, token in enumerate(token_ids) if token not in special]
    count = min(len(words), max(1, round(share * len(words)))) if words else 0
    chosen = {int(i) for i in rng.permutation(words)[:count]}
    return MaskedIds(
        token_ids=[mask_id if i in chosen else token for i, token in enumerate(token_ids)],
        targets=[token if i in chosen else IGNORE for i, token in enumerate(token_ids)],
    )


def answers_in(text: str) -> list[tuple[str, bool]]:
    """The words of a text, each with True where it belongs to an answer.

    An answer is what stands between a question mark and the next full stop, and the judgement, yes or no,
    after the colon that ends a statement.
    """
    words, answering, judging = [], False, False
    for word in text.split():
        words.append((word, answering or (judging and word in JUDGEMENTS)))
        answering = word.endswith("?") or (answering and not word.endswith("."))
        judging = word.endswith(":")
    return words


def mask_caption(
    token_ids: Sequence[int], *, share: float, mask_id: int, vocab_size: int, rng: np.random.Generator
) -> MaskedIds:
    """Hide words of a caption for generation, as the released fine-tuning does (parity FACTS, section 4).

    ``<s>`` is never hidden, ``</s>`` may be. Of the chosen tokens 80% become the mask token, 10% stay,
    10% become a random piece.

    Args:
        token_ids: ``<s>``, words, ``</s>``.
        share: Share of all n tokens to choose: max(1, min(int(n share + 0.5), n - 1)).
        mask_id: Id of the mask token.
        vocab_size: Random pieces are drawn from [3, vocab_size - 1).
        rng: Source of the draw.
    """
    n = len(token_ids)
    count = max(1, min(int(n * share + 0.5), n - 1))
    chosen = rng.permutation(np.arange(1, n))[:count]
    ids, targets = list(token_ids), [IGNORE] * n
    for i in chosen:
        targets[i] = token_ids[i]
        lot = rng.random()
        if lot < 0.8:
            ids[i] = mask_id
        elif lot >= 0.9:
            ids[i] = int(rng.integers(3, vocab_size - 1))
    return MaskedIds(ids, targets)
