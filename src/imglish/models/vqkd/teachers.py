"""Feature teachers: what a visual tokenizer learns to rebuild."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from timm.data.config import resolve_data_config
from torch import Tensor, nn
from torch.nn import functional as F

from imglish.errors import ConfigError


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
        model: A timm model whose ``forward_features`` gives prefix tokens and then patch tokens; its
            positions are resampled where its grid is another one.
        grid_size: (rows, columns) of the tokenizer; the teacher sees the picture resized to this many of its
            patches.
        projected: True puts the model's head on each patch, as BEiT v2 does with CLIP's projection to the
            space of texts; False leaves the features of the last norm, as it does with DINO.

    Raises:
        ConfigError: The head is wanted, and the model has none.
    """

    def __init__(self, model: nn.Module, grid_size: tuple[int, int], *, projected: bool = False) -> None:
        # timm's models say these things by attributes that its base classes do not declare
        described: Any = model.eval().requires_grad_(False)
        self._model, self._num_prefix = described, int(described.num_prefix_tokens)
        self._head: nn.Module = described.head if projected else nn.Identity()
        self.dim = int(described.num_features)
        if projected:
            if not isinstance(self._head, nn.Linear):
                raise ConfigError(
                    f"the teacher's head is {self._head}; expected a linear projection: use projected=False"
                )
            self.dim = self._head.out_features
        patch_height, patch_width = described.patch_embed.patch_size
        self._size = (grid_size[0] * patch_height, grid_size[1] * patch_width)
        if described.patch_embed.img_size not in (None, self._size):
            described.set_input_size(img_size=self._size)
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
        features: Tensor = self._head(model.forward_features(x)[:, self._num_prefix :])
        return features


class PixelTeacher:
    """The pixels of each patch: what a tokenizer rebuilds that no one has taught what pictures mean.

    Args:
        grid_size: (rows, columns) of the tokenizer; a side of the pictures divides by it.
        patch_size: Side of a patch in pixels.
    """

    def __init__(self, grid_size: tuple[int, int], patch_size: int) -> None:
        self.dim = 3 * patch_size**2
        self._grid_size = grid_size

    def __call__(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] to (B, N, 3 x pixels of a patch)."""
        rows, columns = self._grid_size
        patches: Tensor = images.unflatten(3, (columns, -1)).unflatten(2, (rows, -1))  # (B, 3, h, P, w, P)
        return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
