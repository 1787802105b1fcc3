"""Training a text tokenizer."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from imglish.errors import ConfigError, DataFormatError
from imglish.text.tokenizer import UNK, TextTokenizer


def train_tokenizer(
    lines: Iterable[str],
    out: Path,
    *,
    vocab_size: int,
    character_coverage: float = 1.0,
    num_threads: int = 1,
) -> TextTokenizer:
    """Train a unigram model (arXiv 1804.10959), as the paper does on its corpus.

    The same lines and the same number of threads give the same model. A small corpus may not fill the
    vocabulary; then it is smaller.

    Args:
        lines: Sentences; they are held in memory.
        out: Where the ``.spm`` is written.
        vocab_size: Pieces wanted, sentencepiece's own special ones included.
        character_coverage: Share of the characters of the text that become pieces, in (0, 1]; rarer ones are
            unknown. Below 1 for texts of the Web, whose stray characters would fill the vocabulary.
        num_threads: Threads of the search for pieces.

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
            character_coverage=character_coverage,
            max_sentence_length=max(len(sentence.encode()) for sentence in sentences),  # leave none out
            num_threads=num_threads,
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


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerReport:
    """How a text tokenizer cuts texts that it was not trained on.

    Args:
        num_texts: Texts.
        num_words: What stands between their blanks.
        num_pieces: Pieces they fall into.
        num_unknown: Pieces that are ``<unk>``.
    """

    num_texts: int
    num_words: int
    num_pieces: int
    num_unknown: int

    @property
    def fertility(self) -> float:
        """Pieces for each word, from 1 for text whose words all are pieces; 0 where there are no words."""
        return self.num_pieces / max(1, self.num_words)

    @property
    def unknown_rate(self) -> float:
        """Share of the pieces that are ``<unk>``, in [0, 1]."""
        return self.num_unknown / max(1, self.num_pieces)


def measure_tokenizer(tokenizer: TextTokenizer, texts: Iterable[str]) -> TokenizerReport:
    """Cut texts, and count words, pieces and unknown pieces."""
    num_texts = num_words = num_pieces = num_unknown = 0
    for text in texts:
        ids = tokenizer.encode(text)
        num_texts += 1
        num_words += len(text.split())
        num_pieces += len(ids)
        num_unknown += ids.count(UNK)
    return TokenizerReport(
        num_texts=num_texts, num_words=num_words, num_pieces=num_pieces, num_unknown=num_unknown
    )
