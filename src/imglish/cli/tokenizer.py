"""``imglish tokenizer train``: train a text tokenizer, and say how well it cuts texts it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from imglish.cli.usage import UsageError, did_you_mean
from imglish.errors import ConfigError
from imglish.recipes.text_tokenizer import TextTokenizerOptions, train_text_tokenizer

_ACTIONS = ("train",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    """Train a SentencePiece model with the id layout of BEiT-3, and measure it on texts left out.

    Args:
        texts: Tars whose samples have a txt, or UTF-8 files with one document a line; a folder stands for all
            tars in it whose names begin with texts.
        out: The .spm file to write.
        num_pieces: Pieces wanted; 64000 in BEiT-3. A small corpus gives fewer.
        most_texts: Texts that are read, evenly spread over all; they are held in memory.
        held_out: Share of these that is left out of training, to measure on.
        character_coverage: Share of the characters of the texts that become pieces; rarer ones are unknown.
        num_threads: Threads of the search for pieces.
        overwrite: Replace the file.
    """

    texts: tyro.conf.Positional[tuple[Path, ...]]
    out: Path = Path("text.spm")
    num_pieces: int = 64_000
    most_texts: int = 5_000_000
    held_out: float = 0.01
    character_coverage: float = 0.9999
    num_threads: int = 1
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.texts:
            raise ValueError("name at least one tar, text file or folder of tars")
        self.options()

    def options(self) -> TextTokenizerOptions:
        """What the recipe wants to know."""
        return TextTokenizerOptions(
            num_pieces=self.num_pieces,
            most_texts=self.most_texts,
            held_out=self.held_out,
            character_coverage=self.character_coverage,
            num_threads=self.num_threads,
        )


def run(arguments: Sequence[str]) -> None:
    """Train and report."""
    action = arguments[0] if arguments else "-h"
    if action in ("-h", "--help"):
        print(
            "usage: imglish tokenizer train TEXTS... [OPTIONS]\n\n"
            "imglish tokenizer train --help lists the options."
        )
        return
    if action not in _ACTIONS:
        raise UsageError(f"there is no action {action!r}{did_you_mean(action, _ACTIONS) or ': say train'}")
    options = tyro.cli(Train, args=arguments[1:], prog="imglish tokenizer train")
    if options.out.exists() and not options.overwrite:
        raise ConfigError(f"{options.out} exists; --overwrite replaces it")
    files = [file for path in options.texts for file in _files(path)]
    trained = train_text_tokenizer(files, options.out, options.options())
    report = trained.report
    print(f"{options.out}: {trained.vocab_size} ids, trained on {trained.num_texts} texts")
    print(
        f"on {report.num_texts} texts left out: fertility {report.fertility:.3f} pieces a word, "
        f"unknown {report.unknown_rate:.4%} of {report.num_pieces} pieces"
    )
    if trained.num_damaged:
        print(f"{trained.num_damaged} samples had no text that can be read")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("texts*.tar"))
    if not found:
        raise ConfigError(f"{path}: has no texts*.tar; name the tars or text files themselves")
    return found
