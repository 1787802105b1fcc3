"""Sizes and settings of a visual tokenizer."""

from __future__ import annotations

from dataclasses import dataclass

from imglish.models.vit.config import ViTConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class VqkdConfig:
    """Encoder, codebook, decoder.

    Args:
        encoder: From pictures to patch features.
        decoder_width: Features of the decoder's tokens.
        decoder_depth: Its blocks: 3 or 1 in BEiT v2.
        decoder_heads: Its attention heads.
        decoder_mlp_ratio: Inner width of its feed-forward networks over the width.
        codebook_size: Number of visual tokens.
        codebook_dim: Features of a code.
        decay: Share of a code that an update keeps.
        revive_after: Updates without use after which a code is put elsewhere; 0 never.
        teacher_dim: Features of the teacher that the decoder predicts.
    """

    encoder: ViTConfig = ViTConfig()
    decoder_width: int = 768
    decoder_depth: int = 3
    decoder_heads: int = 12
    decoder_mlp_ratio: float = 4.0
    codebook_size: int = 8192
    codebook_dim: int = 32
    decay: float = 0.99
    revive_after: int = 0
    teacher_dim: int = 512

    def __post_init__(self) -> None:
        if self.codebook_size < 2:
            raise ValueError(f"codebook_size must be at least 2; got {self.codebook_size}")
        if not 0 < self.decay < 1:
            raise ValueError(f"decay must lie in (0, 1); got {self.decay}")

    @property
    def decoder(self) -> ViTConfig:
        """The decoder: a ViT over the grid of codes."""
        return ViTConfig(
            image_size=self.encoder.grid_size,
            patch_size=1,
            in_channels=self.codebook_dim,
            width=self.decoder_width,
            depth=self.decoder_depth,
            num_heads=self.decoder_heads,
            mlp_ratio=self.decoder_mlp_ratio,
        )
