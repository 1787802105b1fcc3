"""SentencePiece with fairseq's id layout, as the official text tokenizer has it (parity FACTS, section 6).

Ids are sentencepiece ids plus one, after four special tokens; ``<mask>`` stands last. transformers 5 cannot
load a bare ``.spm`` this way, so this is built on sentencepiece alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from imglish.errors import DataFormatError

BOS, PAD, EOS, UNK = 0, 1, 2, 3

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # sentencepiece's sign for a space
# What the official decoding joins, in its order.
_TIDY = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"),
    (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


def with_ends(token_ids: Sequence[int], max_tokens: int) -> list[int]:
    """``<s>``, at most ``max_tokens - 2`` of the ids, ``</s>``; raises ValueError where no word fits."""
    if max_tokens < 3:
        raise ValueError(f"max_tokens must leave room for a word between <s> and </s>; got {max_tokens}")
    return [BOS, *token_ids[: max_tokens - 2], EOS]


class TextTokenizer:
    """Text to token ids and back.

    Args:
        path: A SentencePiece model (``.spm`` or ``.model``).

    Raises:
        DataFormatError: The file is missing or no SentencePiece model.
    """

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        if not path.is_file():
            raise DataFormatError(f"{path}: no such file; expected a SentencePiece model (.spm)")
        self._load(path.read_bytes(), str(path))

    @classmethod
    def from_bytes(cls, serialized: bytes, where: str = "text tokenizer") -> TextTokenizer:
        """Build a tokenizer from the bytes of a SentencePiece model; ``where`` names them in errors."""
        tokenizer = cls.__new__(cls)
        tokenizer._load(serialized, where)
        return tokenizer

    def _load(self, serialized: bytes, where: str) -> None:
        if not serialized:
            raise DataFormatError(f"{where}: empty file; expected a SentencePiece model (.spm)")
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_proto=serialized)
        except RuntimeError as error:
            raise DataFormatError(
                f"{where}: not a SentencePiece model, or damaged; get the .spm anew"
            ) from error
        self.serialized = serialized
        self._num_pieces = self._model.get_piece_size()
        self._unknown = self._model.unk_id()
        self._special = {BOS: "<s>", PAD: "<pad>", EOS: "</s>", UNK: "<unk>", self.mask_id: "<mask>"}

    @property
    def vocab_size(self) -> int:
        """Ids in use: pieces, the shifted special tokens and ``<mask>``."""
        return self._num_pieces + 2

    @property
    def mask_id(self) -> int:
        """Id of ``<mask>``, the last."""
        return self._num_pieces + 1

    def encode(self, text: str) -> list[int]:
        """Ids of a text without special tokens. Nothing is lower-cased."""
        ids = self._model.encode(text)
        return [UNK if piece == self._unknown else piece + 1 for piece in ids]

    def encode_for_model(self, text: str, max_tokens: int) -> list[int]:
        """``<s>``, at most ``max_tokens - 2`` pieces, ``</s>``; see `with_ends`."""
        return with_ends(self.encode(text), max_tokens)

    def decode(self, token_ids: Iterable[int]) -> str:
        """Text of the ids without special tokens (``<unk>`` is one), spaces before punctuation removed.

        Ids beyond the vocabulary say nothing: models may have more rows than there are pieces.
        """
        words = (i for i in token_ids if i not in self._special and i < self.vocab_size)
        text = "".join(map(self._piece, words))
        text = text.replace(_SPACE, " ").strip()
        for spaced, joined in _TIDY:
            text = text.replace(spaced, joined)
        return text

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """The piece of each id, special tokens by their names."""
        return [self._special.get(i) or self._piece(i) for i in token_ids]

    def _piece(self, token_id: int) -> str:
        if not 0 <= token_id < self.vocab_size:
            raise ValueError(f"token id {token_id} is outside the vocabulary of {self.vocab_size}")
        return str(self._model.id_to_piece(token_id - 1))
