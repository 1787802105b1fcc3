"""Which tokens of a sequence come from the picture and which from the text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """The make-up of a multiway sequence: vision tokens first, then text tokens.

    Every multiway layer takes the layout as an argument, so that routing is a fact about the data and
    never a memory of the last call.

    Args:
        num_vision: Vision tokens at the front of the sequence, class token included.
        num_text: Text tokens after them.
        of_pair: True where the tokens are a part of a pair whose other part was or will be fed apart, as
            in cached generation.
    """

    num_vision: int
    num_text: int
    of_pair: bool = False

    def __post_init__(self) -> None:
        if self.num_vision < 0 or self.num_text < 0 or self.num_vision + self.num_text == 0:
            raise ValueError(f"a layout needs tokens; got {self.num_vision} vision and {self.num_text} text")

    @property
    def is_fused(self) -> bool:
        """True where the sequence, or the pair it is a part of, holds both modalities."""
        return self.of_pair or (self.num_vision > 0 and self.num_text > 0)

    @property
    def num_tokens(self) -> int:
        """Length of the whole sequence."""
        return self.num_vision + self.num_text
