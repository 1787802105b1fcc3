"""What was seen of pictures: opened once, encoded once, whatever is asked about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from imglish.models.beit3.encoder import PictureFeatures
from imglish.structures.pyramid import FeaturePyramid


class Seen(NamedTuple):
    """Pictures as an encoder was shown them, and what it saw.

    Args:
        images: (B, 3, H, W) in its range.
        features: Of these B pictures.
        sizes: (height, width) that each picture has in itself.
    """

    images: Tensor
    features: PictureFeatures
    sizes: tuple[tuple[int, int], ...]

    def one(self, row: int) -> Seen:
        """One of the pictures."""
        rows = slice(row, row + 1)
        return Seen(self.images[rows], self.features.select(rows), self.sizes[rows])

    @staticmethod
    def join(several: Sequence[Seen]) -> Seen:
        """All pictures of ``several``, in their order."""
        if len(several) == 1:
            return several[0]
        return Seen(
            torch.cat([each.images for each in several]),
            PictureFeatures.join([each.features for each in several]),
            tuple(size for each in several for size in each.sizes),
        )


class Look:
    """A picture that several questions are asked about.

    A `Predictor` takes it wherever it takes a picture. What an encoder has seen of it, and what an adapter
    has made of that, is kept and shared by all that stand on the same one.

    Args:
        image: uint8 (3, H, W), RGB, upright.
    """

    def __init__(self, image: Tensor) -> None:
        self.image = image
        self._seen: dict[nn.Module, Seen] = {}
        self._maps: dict[nn.Module, FeaturePyramid] = {}

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image.shape[1], self.image.shape[2]

    def seen(self, encoder: nn.Module) -> Seen | None:
        """What an encoder has seen of this one picture; None where it has not looked yet."""
        return self._seen.get(encoder)

    def keep(self, encoder: nn.Module, seen: Seen) -> None:
        """Remember what an encoder has seen of this one picture."""
        self._seen[encoder] = seen

    def maps(self, adapter: nn.Module) -> FeaturePyramid | None:
        """The maps that an adapter has made of this one picture; None where it has not."""
        return self._maps.get(adapter)

    def keep_maps(self, adapter: nn.Module, maps: FeaturePyramid) -> None:
        """Remember the maps that an adapter has made of this one picture."""
        self._maps[adapter] = maps
