"""Pictures with class maps on their way to the model, as mmsegmentation 0.20.2 prepares them.

In training: a random scale, a crop that no class fills, a flip, photometric distortion, the model's range,
and padding. In scoring: one view of the picture for each scale. Pictures are resized bilinearly without
antialiasing, as OpenCV does (to a grey level), class maps to the nearest pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import InterpolationMode, functional as TF

from imglish.data.transforms.image import to_model_range
from imglish.data.transforms.imagenet import to_imagenet_range
from imglish.data.transforms.photometric import PhotometricDistortion

Pictures = Literal["imagenet", "model"]
Fit = Literal["multiple_of_32", "plain", "at_least_crop"]
Padding = Literal["none", "black", "mean"]

IGNORED = 255
_STRIDE = 32
_TRIES = 10


@dataclass(frozen=True, slots=True)
class RandomFlip:
    """Flip picture and class map from left to right with some chance, in [0, 1]."""

    chance: float

    def __call__(self, image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Map a picture (..., H, W) and class ids (H, W) to the same or both flipped."""
        if self.chance and rng.random() < self.chance:
            return image.flip(-1), mask.flip(-1)
        return image, mask


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationTraining:
    """The official training pipeline of ViT-Adapter (adapter FACTS, section 8).

    Args:
        crop: (height, width) of the result in pixels; smaller pictures are padded at the right and below,
            with 0 in the model's range and 255 in the class map.
        scale: (longer, shorter) side in pixels that the picture is fitted into at ratio 1, its shape kept.
        ratios: Least and largest factor of ``scale``.
        most_of_one: Where a class has this share or more of a crop's labelled pixels, or all of them, another
            crop is drawn, ten times at most; 1 takes the first one.
        flip: Chance of a horizontal flip.
        distortion: Change of colours; None leaves them.
        pictures: The range of the result: ImageNet's mean and deviation, or [-1, 1] (``model``).

    Raises:
        ValueError: A size or ratio is not positive, or a chance or share lies outside [0, 1].
    """

    crop: tuple[int, int] = (512, 512)
    scale: tuple[int, int] = (2048, 512)
    ratios: tuple[float, float] = (0.5, 2.0)
    most_of_one: float = 0.75
    flip: float = 0.5
    distortion: PhotometricDistortion | None = PhotometricDistortion()
    pictures: Pictures = "imagenet"

    def __post_init__(self) -> None:
        if min(*self.crop, *self.scale) < 1 or not 0 < self.ratios[0] <= self.ratios[1]:
            raise ValueError(
                f"crop {self.crop}, scale {self.scale} and ratios {self.ratios} must be positive, the ratios "
                "in their order"
            )
        if not (0 <= self.flip <= 1 and 0 < self.most_of_one <= 1):
            raise ValueError(
                f"flip {self.flip} and most_of_one {self.most_of_one} must lie in [0, 1] and (0, 1]"
            )

    def __call__(self, image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Map uint8 (3, H, W) and ids int64 (H, W) to float32 (3, *crop) and int64 (*crop)."""
        ratio = self.ratios[0] + rng.random() * (self.ratios[1] - self.ratios[0])
        size = fit_into(image.shape[-2:], (int(self.scale[0] * ratio), int(self.scale[1] * ratio)))
        small = mask.to(torch.uint8)  # resized and counted much faster
        image, small = resize_picture(image, size), resize_mask(small, size)
        top, left = self._draw_crop(small, rng)
        window = (..., slice(top, top + self.crop[0]), slice(left, left + self.crop[1]))
        image, small = RandomFlip(self.flip)(image[window], small[window], rng)
        if self.distortion is not None:
            image = self.distortion(image, rng)
        return (
            pad_to(in_range(image, self.pictures), self.crop, 0.0),
            pad_to(small, self.crop, IGNORED).to(torch.int64),
        )

    def _draw_crop(self, mask: Tensor, rng: np.random.Generator) -> tuple[int, int]:
        """Top left corner of a crop in which several classes are; the last draw counts in any case."""
        height, width = self.crop
        room = max(mask.shape[-2] - height, 0), max(mask.shape[-1] - width, 0)
        top, left = _draw_corner(room, rng)
        if self.most_of_one < 1:
            for _ in range(_TRIES):
                counts = torch.bincount(
                    mask[top : top + height, left : left + width].flatten(), minlength=IGNORED + 1
                )[:IGNORED]
                several = int((counts > 0).sum()) > 1
                if several and int(counts.max()) < self.most_of_one * int(counts.sum()):
                    break
                top, left = _draw_corner(room, rng)
        return top, left


class ScoredView(NamedTuple):
    """A picture to be scored.

    Args:
        image: float32 (3, h, w) in the model's range.
        size: (height, width) without the padding at the right and below.
        flipped: True where what is within the padding was flipped from left to right.
    """

    image: Tensor
    size: tuple[int, int]
    flipped: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringViews:
    """The official test pipelines: a view of the picture for each scale, and with some a flipped one.

    Args:
        scale: (longer, shorter) side in pixels that the picture is fitted into at ratio 1, its shape kept.
        ratios: Factors of ``scale``, one for each view.
        flip: True adds each view flipped.
        fit: ``multiple_of_32`` resizes once more to sides that are multiples of 32, rounded up; ``plain``
            does not; ``at_least_crop`` lets the shorter side be no smaller than that of ``crop``, and the
            longer side follow whatever its limit.
        crop: (height, width) in pixels of the windows that the model is shown.
        padding: What fills pictures smaller than ``crop`` at the right and below: nothing at all (``none``),
            black, or the mean colour, which is 0 in the model's range.
        pictures: The range, as in `SegmentationTraining`.

    Raises:
        ValueError: A size or ratio is not positive, or there is no ratio.
    """

    scale: tuple[int, int] = (2048, 512)
    ratios: tuple[float, ...] = (1.0,)
    flip: bool = False
    fit: Fit = "multiple_of_32"
    crop: tuple[int, int] = (512, 512)
    padding: Padding = "none"
    pictures: Pictures = "imagenet"

    def __post_init__(self) -> None:
        if not self.ratios or min(*self.scale, *self.crop, *self.ratios) <= 0:
            raise ValueError(
                f"scale {self.scale}, crop {self.crop} and ratios {self.ratios} must be positive, and there "
                "must be a ratio"
            )

    def __call__(self, image: Tensor) -> tuple[ScoredView, ...]:
        """The views of uint8 (3, H, W): one for each ratio, two with ``flip``."""
        return tuple(
            self._view(image, ratio, flipped)
            for ratio in self.ratios
            for flipped in ((False, True) if self.flip else (False,))
        )

    def _view(self, image: Tensor, ratio: float, flipped: bool) -> ScoredView:
        scale = int(self.scale[0] * ratio), int(self.scale[1] * ratio)
        height, width = image.shape[-2:]
        if self.fit == "at_least_crop":
            size = _scaled((height, width), max(*self.crop, min(scale)) / min(height, width))
        else:
            size = fit_into((height, width), scale)
        image = resize_picture(image, size)
        if self.fit == "multiple_of_32":
            size = math.ceil(size[0] / _STRIDE) * _STRIDE, math.ceil(size[1] / _STRIDE) * _STRIDE
            image = resize_picture(image, size)
        image = image.flip(-1) if flipped else image
        whole = max(size[0], self.crop[0]), max(size[1], self.crop[1])
        if self.padding == "black":
            image = pad_to(image, whole, 0)
        ready = in_range(image, self.pictures)
        if self.padding == "mean":
            ready = pad_to(ready, whole, 0.0)
        return ScoredView(ready, size, flipped)


def fit_into(size: Sequence[int], scale: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a picture scaled until it touches a side of ``scale``, its shape kept.

    Args:
        size: (height, width) in pixels.
        scale: Two sides, of which the larger bounds the longer side of the picture and the smaller the
            shorter.
    """
    height, width = size
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return _scaled((height, width), factor)


def resize_picture(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize uint8 (3, H, W) to (3, *size), bilinearly and without antialiasing."""
    if tuple(image.shape[-2:]) == size:
        return image
    resized: Tensor = TF.resize(image, list(size), interpolation=InterpolationMode.BILINEAR, antialias=False)
    return resized


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize class ids (H, W) to ``size``, each pixel from the nearest one."""
    if tuple(mask.shape) == size:
        return mask
    resized: Tensor = TF.resize(mask[None], list(size), interpolation=InterpolationMode.NEAREST)
    return resized[0]


def pad_to(image: Tensor, size: tuple[int, int], value: float) -> Tensor:
    """Fill (..., H, W) at the right and below up to ``size``; larger ones stay as they are."""
    below, right = max(size[0] - image.shape[-2], 0), max(size[1] - image.shape[-1], 0)
    return F.pad(image, (0, right, 0, below), value=value) if below or right else image


def in_range(image: Tensor, pictures: Pictures) -> Tensor:
    """Map uint8 (3, H, W) to float32 of ImageNet's mean and deviation, or in [-1, 1]."""
    return to_imagenet_range(image) if pictures == "imagenet" else to_model_range(image)


def _scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """A size times a factor, halves upwards, and at least one pixel."""
    return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


def _draw_corner(room: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(0, room[0] + 1)), int(rng.integers(0, room[1] + 1))
