from __future__ import annotations

from pathlib import Path

import pytest

from imglish.errors import ConfigError, DataFormatError
from imglish.text.tokenizer import UNK, TextTokenizer
from imglish.text.training import train_tokenizer

LINES = ["a red circle and a blue square", "the green star is left of the tree", "two fish on the sand"] * 10


def test_every_character_of_the_corpus_is_known(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(LINES, tmp_path / "text.spm", vocab_size=60)
    for line in LINES[:3]:
        ids = tokenizer.encode(line)
        assert UNK not in ids
        assert tokenizer.decode(ids) == line


def test_the_file_holds_what_is_returned(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(LINES, tmp_path / "new" / "text.spm", vocab_size=60)
    again = TextTokenizer(tmp_path / "new" / "text.spm")
    assert again.serialized == tokenizer.serialized
    assert again.encode(LINES[0]) == tokenizer.encode(LINES[0])


def test_equal_lines_give_equal_bytes(tmp_path: Path) -> None:
    first = train_tokenizer(LINES, tmp_path / "first.spm", vocab_size=60)
    second = train_tokenizer(iter(LINES), tmp_path / "second.spm", vocab_size=60)
    assert first.serialized == second.serialized


def test_a_small_corpus_gives_a_smaller_vocabulary(tmp_path: Path) -> None:
    assert train_tokenizer(LINES, tmp_path / "text.spm", vocab_size=5000).vocab_size < 200


def test_a_long_line_is_read_whole(tmp_path: Path) -> None:
    tokenizer = train_tokenizer([*LINES, "moon " * 2000 + "q"], tmp_path / "text.spm", vocab_size=60)
    assert UNK not in tokenizer.encode("q moon")


def test_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match="no text to train a tokenizer on"):
        train_tokenizer(["", "  "], tmp_path / "text.spm", vocab_size=60)
    assert not (tmp_path / "text.spm").exists()


def test_a_vocabulary_smaller_than_the_alphabet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot train a vocabulary of 5 pieces") as error:
        train_tokenizer(LINES, tmp_path / "text.spm", vocab_size=5)
    assert "\n" not in str(error.value)
