"""Feature teachers: what a visual tokenizer learns to rebuild."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from timm.data.config import resolve_data_config
from torch import Tensor, nn
from torch.nn import functional as F


class FeatureTeacher(Protocol):
    """Pictures to patch features on the tokenizer's grid.

    ``dim`` is the number of features. A call maps pictures (B, 3, H, W) in [-1, 1] to (B, N, dim).
    """

    dim: int

    def __call__(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) to features (B, N, dim)."""
        ...


class TimmTeacher:
    """Patch features of a timm Vision Transformer (CLIP, DINO and so on), frozen.

    Args:
        model: A timm model whose ``forward_features`` gives prefix tokens and then patch tokens.
        grid_size: (rows, columns) of the tokenizer; the picture is resized so that the teacher's agrees.
    """

    def __init__(self, model: nn.Module, grid_size: tuple[int, int]) -> None:
        # timm's models say these things by attributes that its base classes do not declare
        described: Any = model.eval().requires_grad_(False)
        self._model, self._num_prefix = described, int(described.num_prefix_tokens)
        self.dim = int(described.num_features)
        patch_height, patch_width = described.patch_embed.patch_size
        self._size = (grid_size[0] * patch_height, grid_size[1] * patch_width)
        config = resolve_data_config(model=model)
        self._mean = torch.tensor(config["mean"]).view(1, 3, 1, 1)
        self._std = torch.tensor(config["std"]).view(1, 3, 1, 1)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] to patch features (B, N, dim)."""
        model = self._model.to(images.device)
        x = (images + 1) / 2
        if tuple(x.shape[-2:]) != self._size:
            x = F.interpolate(x, size=self._size, mode="bicubic", antialias=True)
        x = (x - self._mean.to(x)) / self._std.to(x)
        features: Tensor = model.forward_features(x)[:, self._num_prefix :]
        return features
