"""Training a text tokenizer."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from imglish.errors import ConfigError, DataFormatError
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
        ConfigError: The vocabulary is smaller than the characters of the text need.
        DataFormatError: There is no text.
    """
    sentences = [line for line in lines if line.strip()]
    if not sentences:
        raise DataFormatError(f"{out}: there is no text to train a tokenizer on; give at least one line")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            character_coverage=1.0,
            max_sentence_length=max(len(sentence.encode()) for sentence in sentences),  # leave none out
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2].partition(" Increase")[0]
        raise ConfigError(
            f"{out}: cannot train a vocabulary of {vocab_size} pieces: {reason or 'the text is too short'} "
            "Give a larger vocab_size or more text."
        ) from error
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(model.getvalue())
    return TextTokenizer.from_bytes(model.getvalue(), str(out))
