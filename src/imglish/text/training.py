"""Training a text tokenizer."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from imglish.errors import DataFormatError
from imglish.text.tokenizer import TextTokenizer


def train_tokenizer(lines: Iterable[str], out: Path, *, vocab_size: int) -> TextTokenizer:
    """Train a unigram model (arXiv 1804.10959), as the paper does on its corpus.

    One thread, so that the same lines give the same model. A small corpus may not fill the vocabulary;
    then it is smaller.

    Args:
        lines: Sentences; they are held in memory.
        out: Where the ``.spm`` is written.
        vocab_size: Pieces wanted, sentencepiece's own special ones included.

    Raises:
        DataFormatError: There is no text.
    """
    sentences = [line for line in lines if line.strip()]
    if not sentences:
        raise DataFormatError(f"{out}: there is no text to train a tokenizer on; give at least one line")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type="unigram",
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(model.getvalue())
    return TextTokenizer.from_bytes(model.getvalue(), str(out))
