"""Pictures and texts as tokens of one width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imglish.models.beit3.config import Beit3Config
from imglish.nn.patch_embedding import PatchEmbedding

# Position tables keep two unused rows in front, as the official ones do (fairseq's padding offset).
POSITION_OFFSET = 2


class VisionEmbedding(nn.Module):
    """Patches, class token and positions. Shapes: B batch, N patches, C width."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        self.patches = PatchEmbedding(patch_size=config.patch_size, width=config.width, stem=config.stem)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = nn.Embedding(config.num_patches + 1 + POSITION_OFFSET, config.width)

    def forward(self, images: Tensor, corruption: Tensor | None = None) -> Tensor:
        """Embed pictures.

        Args:
            images: (B, 3, H, W) in [-1, 1].
            corruption: bool (B, N), True where the patch is replaced by the mask token.

        Returns:
            Tokens (B, 1 + N, C), class token first.

        Raises:
            ValueError: The picture has another number of patches than the position table.
        """
        x = self.patches(images)
        num_rows = self.positions.num_embeddings - 1 - POSITION_OFFSET
        if x.shape[1] != num_rows:
            raise ValueError(
                f"the picture has {x.shape[1]} patches but the position table has {num_rows}; "
                "resample the table with models.beit3.weights.resize_positions"
            )
        if corruption is not None:
            x = torch.where(corruption[..., None], self.mask_token.to(x.dtype), x)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1).to(x.dtype), x], dim=1)
        return x + self.positions.weight[POSITION_OFFSET:]


class TextEmbedding(nn.Module):
    """Words and positions. Shapes: B batch, T tokens, C width."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Embedding(config.max_text_tokens + POSITION_OFFSET, config.width)

    def forward(self, token_ids: Tensor, start: int = 0) -> Tensor:
        """Embed token ids int64 (B, T), the first of which stands at position ``start``: (B, T, C).

        Raises:
            ValueError: The text is longer than the position table.
        """
        first = start + POSITION_OFFSET
        last = first + token_ids.shape[1]
        if last > self.positions.num_embeddings:
            raise ValueError(
                f"text of {last - POSITION_OFFSET} tokens, but the model has positions for "
                f"{self.positions.num_embeddings - POSITION_OFFSET}"
            )
        x: Tensor = self.words(token_ids) + self.positions.weight[first:last]
        return x
