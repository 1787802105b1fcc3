"""Training the text tokenizer of a pretraining run on its texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imglish.data.formats.text_corpus import read_text_corpus
from imglish.data.shards import ShardSet
from imglish.errors import DataFormatError
from imglish.recipes.sources import ShardTexts
from imglish.text.training import TokenizerReport, measure_tokenizer, train_tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTokenizerOptions:
    """How a text tokenizer is trained.

    Args:
        num_pieces: Pieces wanted; 64000 in BEiT-3, whose ids then reach to 64001.
        most_texts: Texts that are read, evenly spread over all; they are held in memory.
        held_out: Share of these that is left out of training, to measure on.
        character_coverage: Share of the characters that become pieces.
        num_threads: Threads of the search for pieces.
    """

    num_pieces: int = 64_000
    most_texts: int = 5_000_000
    held_out: float = 0.01
    character_coverage: float = 0.9999
    num_threads: int = 1

    def __post_init__(self) -> None:
        for name, least in {"num_pieces": 4, "most_texts": 2, "num_threads": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}; got {getattr(self, name)}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must lie between 0 and 1; got {self.held_out}")
        if not 0 < self.character_coverage <= 1:
            raise ValueError(f"character_coverage must lie in (0, 1]; got {self.character_coverage}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedTokenizer:
    """What was trained.

    Args:
        vocab_size: Ids in use, special tokens included.
        num_texts: Texts it was trained on.
        report: On the texts left out.
        num_damaged: Samples of shards without a text that can be read.
    """

    vocab_size: int
    num_texts: int
    report: TokenizerReport
    num_damaged: int


def train_text_tokenizer(files: Sequence[Path], out: Path, options: TextTokenizerOptions) -> TrainedTokenizer:
    """Train a SentencePiece model on tars or text files, and measure it on texts left out.

    Args:
        files: Tars whose samples have a ``txt``, or UTF-8 files with one document a line.
        out: The ``.spm`` to write.
        options: Size, and how much is read.

    Raises:
        ConfigError: The vocabulary is smaller than the characters of the text need.
        DataFormatError: A file is missing or damaged, or there are fewer than two texts.
    """
    texts, num_damaged = _read(files, options.most_texts)
    if len(texts) < 2:
        raise DataFormatError(
            f"{files[0]}: {len(texts)} texts to train a tokenizer on; expected at least 2: name more files"
        )
    num_held = min(len(texts) - 1, max(1, round(options.held_out * len(texts))))
    held = set(_spread(len(texts), num_held))
    training = [text for number, text in enumerate(texts) if number not in held]
    tokenizer = train_tokenizer(
        (line for text in training for line in text.split("\n")),
        out,
        vocab_size=options.num_pieces,
        character_coverage=options.character_coverage,
        num_threads=options.num_threads,
    )
    return TrainedTokenizer(
        vocab_size=tokenizer.vocab_size,
        num_texts=len(training),
        report=measure_tokenizer(tokenizer, (texts[number] for number in sorted(held))),
        num_damaged=num_damaged,
    )


def _read(files: Sequence[Path], most: int) -> tuple[list[str], int]:
    """At most so many texts, evenly spread over all files, and how many samples are damaged."""
    tars = [path for path in files if path.suffix == ".tar"]
    corpora = [path for path in files if path.suffix != ".tar"]
    shards = ShardTexts(shards=ShardSet(tars)) if tars else None
    in_tars = 0 if shards is None else len(shards)
    total = in_tars + sum(1 for path in corpora for _ in read_text_corpus(path))
    wanted = _spread(total, min(most, total))
    texts: list[str] = []
    num_damaged = 0
    for index in (number for number in wanted if number < in_tars):
        assert shards is not None
        try:
            texts.append(shards.text(index))
        except DataFormatError:
            num_damaged += 1
    rest = {number - in_tars for number in wanted if number >= in_tars}
    texts += [text for number, text in enumerate(_documents(corpora)) if number in rest]
    return texts, num_damaged


def _documents(corpora: Sequence[Path]) -> Iterator[str]:
    for path in corpora:
        yield from read_text_corpus(path)


def _spread(total: int, count: int) -> list[int]:
    """``count`` different numbers below ``total``, evenly spread."""
    numbers: list[int] = (np.arange(count, dtype=np.int64) * total // max(1, count)).tolist()
    return numbers
