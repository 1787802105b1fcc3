"""A visual tokenizer as others use it: to name the tokens they shall predict."""

from __future__ import annotations

from torch import Tensor

from imglish.models.vqkd.model import Vqkd


class FrozenTokenizer:
    """A visual tokenizer outside the module tree: not trained, not saved, always in evaluation mode.

    Args:
        tokenizer: The tokenizer.
        grid_size: (rows, columns) of tokens that it shall give.
    """

    def __init__(self, tokenizer: Vqkd, grid_size: tuple[int, int]) -> None:
        self.tokenizer = tokenizer.eval().requires_grad_(False)
        self.grid_size = grid_size

    def __call__(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) to token ids int64 (B, N); follows the pictures' device."""
        return self.tokenizer.to(images.device).encode(images, self.grid_size).flatten(1)
