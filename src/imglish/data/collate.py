"""Pad and stack samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from imglish.data.transforms.image import to_model_range
from imglish.text.tokenizer import PAD


def stack_images(images: Sequence[Tensor]) -> Tensor:
    """Stack uint8 pictures (3, H, W) of one size to float32 (B, 3, H, W) in [-1, 1]; none: (0, 3, 0, 0)."""
    if not images:
        return torch.empty(0, 3, 0, 0)
    return to_model_range(torch.stack(list(images)))


def pad_ids(texts: Sequence[Sequence[int]], fill: int = PAD) -> Tensor:
    """Pad id lists at the end to the longest: int64 (B, T); (0, 0) where there are none."""
    length = max((len(text) for text in texts), default=0)
    padded = [[*text, *[fill] * (length - len(text))] for text in texts]
    return torch.tensor(padded, dtype=torch.int64).reshape(len(texts), length)


def padding_of(texts: Sequence[Sequence[int]]) -> Tensor:
    """Which positions `pad_ids` filled: bool (B, T), True where padded."""
    lengths = [len(text) for text in texts]
    places = torch.arange(max(lengths, default=0))
    return places[None, :] >= torch.tensor(lengths, dtype=torch.int64)[:, None]
