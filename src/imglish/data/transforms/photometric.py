"""Photometric distortion as segmentation models are trained with: that of SSD, in mmsegmentation's form.

The numbers are those of mmsegmentation 0.20.2 and of OpenCV, whose 8-bit HSV it goes through: hue counts
0 to 179, saturation and value 0 to 255, each rounded, and each change clips and cuts off the fraction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_HUES = 180
_LEVELS = 255
_SHIFT = 12  # OpenCV divides by looking up fractions of 2^12, which rounds some halves down
_HALF = 1 << (_SHIFT - 1)
_DIVISORS = torch.arange(1, _LEVELS + 1, dtype=torch.float64)
_PER_VALUE = torch.cat([torch.zeros(1), ((_LEVELS << _SHIFT) / _DIVISORS).round()]).to(torch.int32)
_PER_SPREAD = torch.cat([torch.zeros(1), ((_HUES << _SHIFT) / (6 * _DIVISORS)).round()]).to(torch.int32)


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotometricDistortion:
    """Brightness, contrast, saturation and hue, each changed with a chance of one half.

    Contrast comes before saturation and hue or after them, at even odds.

    Args:
        brightness: Largest number that is added to the levels or taken off, in [0, 255].
        contrast: Least and largest factor of the levels.
        saturation: Least and largest factor of the saturation.
        hue: Largest turn of the hue, exclusive above, in steps of 2 degrees.
    """

    brightness: float = 32.0
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: int = 18

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Map uint8 (3, H, W) to uint8 (3, H, W)."""
        if rng.random() < 0.5:
            image = _scaled(image, add=rng.uniform(-self.brightness, self.brightness))
        contrast_first = rng.random() < 0.5
        if contrast_first:
            image = self._contrast(image, rng)
        if rng.random() < 0.5:
            hue, saturation, value = to_hsv(image)
            image = from_hsv(hue, _scaled(saturation, factor=rng.uniform(*self.saturation)), value)
        if rng.random() < 0.5:
            hue, saturation, value = to_hsv(image)
            turned = (hue.to(torch.int16) + int(rng.integers(-self.hue, self.hue))) % _HUES
            image = from_hsv(turned.to(torch.uint8), saturation, value)
        return image if contrast_first else self._contrast(image, rng)

    def _contrast(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        return _scaled(image, factor=rng.uniform(*self.contrast)) if rng.random() < 0.5 else image


def to_hsv(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in [0, 180), saturation and value of RGB uint8 (3, H, W), each uint8 (H, W), as OpenCV's."""
    red, green, blue = image.to(torch.int32)
    value = torch.maximum(torch.maximum(red, green), blue)
    spread = value - torch.minimum(torch.minimum(red, green), blue)
    saturation = (spread * _PER_VALUE[value] + _HALF) >> _SHIFT
    sixth = torch.where(
        value == red,
        green - blue,
        torch.where(value == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    hue = (sixth * _PER_SPREAD[spread] + _HALF) >> _SHIFT
    hue = torch.where(hue < 0, hue + _HUES, hue)
    return hue.to(torch.uint8), saturation.to(torch.uint8), value.to(torch.uint8)


def from_hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """RGB uint8 (3, H, W) of hue in [0, 180), saturation and value uint8 (H, W).

    As OpenCV's, which cuts off fractions here; sums in another order leave one level's difference in fewer
    than one value in a hundred.
    """
    turn = hue.to(torch.float32) * (6 / _HUES)
    full = value.to(torch.float32)
    taken = full * (saturation.to(torch.float32) / _LEVELS)
    channels = []
    for offset in (5, 3, 1):  # red, green, blue: how far the hue is from where the channel is full
        place = (turn + offset) % 6
        channels.append(full - taken * torch.minimum(place, 4 - place).clamp(0, 1))
    return (torch.stack(channels) + 1e-4).to(torch.uint8)  # whole numbers must not fall just below themselves


def _scaled(values: Tensor, *, factor: float = 1.0, add: float = 0.0) -> Tensor:
    """uint8 values times a factor and plus a number, clipped and without fractions."""
    return values.to(torch.float32).mul_(factor).add_(add).clamp_(0, 255).to(torch.uint8)
