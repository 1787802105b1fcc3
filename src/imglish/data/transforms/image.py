"""Pictures from decoded bytes to model input, with every random draw taken from a given generator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imglish.data.transforms.randaugment import RandAugment
from imglish.data.transforms.resize import Resampling, resize_bicubic


def to_model_range(image: Tensor) -> Tensor:
    """Map uint8 (..., H, W) to float32 in [-1, 1]: mean 0.5 and deviation 0.5 of [0, 1]."""
    return image.to(torch.float32).div_(127.5).sub_(1.0)


def from_model_range(image: Tensor) -> Tensor:
    """Map float in [-1, 1] back to uint8."""
    return image.add(1.0).mul(127.5).round_().clamp_(0, 255).to(torch.uint8)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTransform:
    """Crop, flip, resize and augment one picture; no crop leaves a squash resize, as the official evaluation.

    Args:
        size: (height, width) of the result in pixels.
        crop_scale: Smallest share of the area a random crop keeps, in (0, 1]; 1 never crops.
        flip: Chance of a horizontal flip. The released code flips even where left and right matter.
        resampling: How it is resized, exactly as the official code or faster; see `resize_bicubic`.
        augment: Changes of the resized picture, at random; None makes none.
    """

    size: tuple[int, int]
    crop_scale: float = 1.0
    flip: float = 0.0
    resampling: Resampling = "torchvision"
    augment: RandAugment | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.crop_scale <= 1.0 or not 0.0 <= self.flip <= 1.0:
            raise ValueError(
                f"crop_scale {self.crop_scale} and flip {self.flip} must lie in (0, 1] and [0, 1]"
            )

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Map uint8 (3, H, W) to uint8 (3, *size)."""
        if self.crop_scale < 1.0:
            top, left, height, width = self._draw_crop(image.shape[-2], image.shape[-1], rng)
            image = image[..., top : top + height, left : left + width]
        if self.flip and rng.random() < self.flip:
            image = image.flip(-1)
        image = resize_bicubic(image, self.size, self.resampling)
        return image if self.augment is None else self.augment(image, rng)

    def _draw_crop(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Area uniform in [crop_scale, 1], log aspect in [3/4, 4/3]; the whole picture if none fits."""
        for _ in range(10):
            area = height * width * rng.uniform(self.crop_scale, 1.0)
            aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w
        return 0, 0, height, width
