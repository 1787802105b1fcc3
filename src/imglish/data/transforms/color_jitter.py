"""Random brightness, contrast and saturation, as BEiT's pretraining changes its pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from imglish.data.transforms.image import ImageTransform

_CHANGES = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation)


@dataclass(frozen=True, slots=True)
class ColorJitter:
    """Change brightness, contrast and saturation in a random order; hue, which is slow, stays.

    Args:
        strength: Each factor is uniform in [1 - strength, 1 + strength]; in [0, 1], 0 changes nothing.
    """

    strength: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"strength {self.strength} must lie in [0, 1]")

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Map uint8 (3, H, W) to uint8 (3, H, W)."""
        if self.strength == 0:
            return image
        for number in rng.permutation(len(_CHANGES)):
            image = _CHANGES[number](image, float(rng.uniform(1 - self.strength, 1 + self.strength)))
        return image


@dataclass(frozen=True, slots=True)
class JitteredCrop:
    """Colours change, then a crop is taken: the order of the official code."""

    jitter: ColorJitter
    crop: ImageTransform

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Map uint8 (3, H, W) to uint8 (3, *size)."""
        return self.crop(self.jitter(image, rng), rng)
