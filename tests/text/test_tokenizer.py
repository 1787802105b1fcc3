from __future__ import annotations

from pathlib import Path

import pytest

from imglish.errors import DataFormatError
from imglish.text.tokenizer import BOS, EOS, PAD, UNK, TextTokenizer, with_ends

SPM = Path(__file__).parents[1] / "parity" / "data" / "beit3_tokenizer" / "tiny.spm"


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer(SPM)


def test_ids_are_those_of_fairseq(tokenizer: TextTokenizer) -> None:
    # 46 pieces, the first three of which are sentencepiece's own special ones.
    assert (BOS, PAD, EOS, UNK, tokenizer.mask_id, tokenizer.vocab_size) == (0, 1, 2, 3, 47, 48)
    assert tokenizer.encode("a cat on the car")[:3] == [4, 5, 36]
    assert tokenizer.encode("A cat")[:2] == [4, UNK]
    assert tokenizer.pieces([0, 5, 36, 3, 1, 2, 47]) == [
        "<s>",
        "a",
        "▁ca",
        "<unk>",
        "<pad>",
        "</s>",
        "<mask>",
    ]


def test_model_input_has_ends_and_keeps_its_length(tokenizer: TextTokenizer) -> None:
    ids = tokenizer.encode("a cat on the car")
    assert tokenizer.encode_for_model("a cat on the car", 100) == [BOS, *ids, EOS]
    assert tokenizer.encode_for_model("a cat on the car", 5) == [BOS, *ids[:3], EOS]
    assert tokenizer.encode_for_model("", 5) == [BOS, EOS]
    with pytest.raises(ValueError, match="got 2"):
        with_ends(ids, 2)


def test_decoding_leaves_special_tokens_out(tokenizer: TextTokenizer) -> None:
    ids = [BOS, *tokenizer.encode("a cat on the car"), UNK, tokenizer.mask_id, EOS, PAD]
    assert tokenizer.decode(ids) == "a cat on the car"
    assert tokenizer.decode([BOS, EOS]) == ""


def test_decoding_joins_punctuation_to_its_word(tokenizer: TextTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("what color is the car ?")) == "what color is the car?"


def test_an_id_beyond_the_vocabulary_has_no_piece_and_says_nothing(tokenizer: TextTokenizer) -> None:
    with pytest.raises(ValueError, match="token id 48 is outside the vocabulary of 48"):
        tokenizer.pieces([5, 48])
    assert tokenizer.decode([5, 48]) == tokenizer.decode([5])  # models have rows that no piece belongs to


def test_bytes_hold_the_whole_tokenizer(tokenizer: TextTokenizer) -> None:
    again = TextTokenizer.from_bytes(tokenizer.serialized)
    assert again.encode("two dogs run") == tokenizer.encode("two dogs run")


@pytest.mark.parametrize("content", [b"", b"hello " * 100, SPM.read_bytes()[:5000]])
def test_a_file_that_is_no_tokenizer_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.spm"
    path.write_bytes(content)
    with pytest.raises(DataFormatError, match=r"broken\.spm") as error:
        TextTokenizer(path)
    assert "\n" not in str(error.value)
    with pytest.raises(DataFormatError, match=r"none\.spm: no such file"):
        TextTokenizer(tmp_path / "none.spm")
