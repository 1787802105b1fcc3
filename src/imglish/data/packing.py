"""Text packed to the context length: documents one after the other, ``</s>`` between."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from imglish.text.tokenizer import EOS


def pack_documents(
    encode: Callable[[int], list[int]],
    num_documents: int,
    first: int,
    length: int,
    rng: np.random.Generator,
) -> list[int]:
    """Document ``first`` and the ones after it, until ``length`` tokens are full; the last is cut off.

    What comes out follows from the arguments alone, so that a run can stop and go on exactly. Each document
    begins one sample of an epoch, and is read again in those before it that it still fits into: an epoch over
    short documents is as many times longer. Of a document longer than ``length`` a window is drawn, so that
    every part of it is read in time.

    Args:
        encode: Token ids, without special tokens, of a document by number.
        num_documents: Documents; after the last comes the first again, each at most once.
        first: Number of the document that begins the sample.
        length: Most tokens, those between the documents included.
        rng: Draws the window.

    Returns:
        At most ``length`` token ids: one fewer where an end alone would have room, and fewer only where all
        documents together have fewer.
    """
    ids = encode(first)
    if len(ids) > length:
        start = int(rng.integers(len(ids) - length + 1))
        return ids[start : start + length]
    for step in range(1, num_documents):
        if len(ids) + 1 >= length:
            break
        ids = [*ids, EOS, *encode((first + step) % num_documents)]
    return ids[:length]
