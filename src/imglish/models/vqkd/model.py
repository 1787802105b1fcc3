"""The visual tokenizer: pictures to tokens that rebuild a teacher's features (BEiT v2, section 2.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.models.vit.model import ViT
from imglish.models.vqkd.config import VqkdConfig
from imglish.nn.init import truncated_normal_
from imglish.nn.quantizer import EmaQuantizer, Quantized


class VqkdOutput(NamedTuple):
    """Rebuilt teacher features (B, N, teacher_dim), and the codes they were rebuilt from."""

    reconstruction: Tensor
    quantized: Quantized


class Vqkd(nn.Module):
    """Encode pictures to tokens, decode tokens to the teacher's features.

    Pictures are in [-1, 1]. The official code takes [0, 1], or 0 to 255 where a value exceeds 1, and maps
    them to [-1, 1] itself; we leave guessing to nobody.
    """

    def __init__(self, config: VqkdConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ViT(config.encoder)
        self.to_code = _two_layers(config.encoder.width, config.codebook_dim)
        self.quantizer = EmaQuantizer(
            config.codebook_size, config.codebook_dim, decay=config.decay, revive_after=config.revive_after
        )
        self.decoder = ViT(config.decoder)
        self.to_teacher = _two_layers(config.decoder_width, config.teacher_dim)

    def forward(self, images: Tensor) -> VqkdOutput:
        """Tokenize pictures (B, 3, H, W) and rebuild the teacher's features from the tokens."""
        quantized = self.quantizer(self.features(images))
        return VqkdOutput(self.decode(quantized.codes), quantized)

    def features(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) to features before quantisation (B, N, codebook_dim), in float32."""
        x = self.encoder(images)
        with torch.autocast(x.device.type, enabled=False):  # small cosine margins decide the token
            features: Tensor = self.to_code(x.float())
        return features

    def decode(self, codes: Tensor) -> Tensor:
        """Unit code vectors (B, N, codebook_dim) to teacher features (B, N, teacher_dim)."""
        rows, columns = self.config.encoder.grid_size
        x = codes.transpose(1, 2).unflatten(2, (rows, columns))
        features: Tensor = self.to_teacher(self.decoder(x))
        return features

    @torch.no_grad()
    def encode(self, images: Tensor, grid_size: tuple[int, int] | None = None) -> Tensor:
        """Pictures to visual tokens.

        Args:
            images: (B, 3, H, W) in [-1, 1].
            grid_size: (rows, columns) of tokens wanted: the tokenizer's view is resized to so many of its
                patches, as for a model whose patches have another side. None leaves the pictures as they are.

        Returns:
            Token ids int64 (B, N), row by row.
        """
        if grid_size is not None:
            images = self._view(images, grid_size)
        token_ids: Tensor = self.quantizer(self.features(images)).token_ids
        return token_ids

    def _view(self, images: Tensor, grid_size: tuple[int, int]) -> Tensor:
        side = self.encoder.patch_size
        size = (grid_size[0] * side, grid_size[1] * side)
        if tuple(images.shape[-2:]) == size:
            return images
        # In float32, as small margins decide the token; bicubic overshoots.
        view = F.interpolate(images.float(), size=size, mode="bicubic", antialias=True)
        return view.clamp(-1, 1)


def _two_layers(width: int, out: int) -> nn.Sequential:
    layers = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, out))
    for layer in (layers[0], layers[2]):
        assert isinstance(layer, nn.Linear)
        truncated_normal_(layer.weight, std=0.02 if width > 512 else width**-0.5)
        nn.init.zeros_(layer.bias)
    return layers
