"""Pictures with objects on their way to a detector: the official training and test pipelines.

As mmdetection 2.22 prepares them for ViT-Adapter (adapter FACTS, section 8), but for outlines, which are
polygons until the final size, where mmdetection resizes masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from imglish.data.transforms.copy_paste import CopyPaste
from imglish.data.transforms.objects import (
    PictureObjects,
    boxes_of,
    cropped,
    flipped,
    has_area,
    resized,
)
from imglish.data.transforms.segmentation import (
    Pictures,
    ScoredView,
    fit_into,
    in_range,
    pad_to,
    resize_picture,
)

_STRIDE = 32
_LEAST_SIDE = 1e-2  # pixels; FilterAnnotations of the official large-scale jitter

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenScale:
    """Fit the picture into one of several scales, its shape kept.

    Args:
        scales: (longer, shorter) sides in pixels; one is drawn.
    """

    scales: tuple[Size, ...] = ((1333, 800),)

    def __post_init__(self) -> None:
        if not self.scales or any(min(scale) < 1 for scale in self.scales):
            raise ValueError(f"scales must be pixels, and at least one; got {self.scales}")

    def __call__(self, scene: PictureObjects, rng: np.random.Generator) -> PictureObjects:
        """Resize the picture and its objects."""
        scale = self.scales[int(rng.integers(len(self.scales)))]
        return resized(scene, fit_into(scene.size, scale))


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaleRange:
    """Fit the picture into a scale whose sides are drawn, each from its range, its shape kept.

    Args:
        longer: Least and most pixels of the longer side.
        shorter: Least and most pixels of the shorter side.
    """

    longer: Size = (1600, 1600)
    shorter: Size = (400, 1400)

    def __post_init__(self) -> None:
        if not (0 < self.longer[0] <= self.longer[1] and 0 < self.shorter[0] <= self.shorter[1]):
            raise ValueError(f"longer {self.longer} and shorter {self.shorter} must be ascending pixels")

    def __call__(self, scene: PictureObjects, rng: np.random.Generator) -> PictureObjects:
        """Resize the picture and its objects."""
        longer, shorter = (int(rng.integers(low, high + 1)) for low, high in (self.longer, self.shorter))
        return resized(scene, fit_into(scene.size, (longer, shorter)))


@dataclass(frozen=True, kw_only=True, slots=True)
class CropOrNot:
    """DETR's augmentation: resize; or resize, crop and resize, at even odds.

    Args:
        scales: (longer, shorter) sides in pixels; one is drawn, after a crop as well.
        first: Shorter sides before the crop.
        longer: Longer side before the crop, at most.
        crop: Least and most pixels of both sides of the crop.
    """

    scales: tuple[Size, ...] = tuple((1333, shorter) for shorter in range(480, 801, 32))
    first: tuple[int, ...] = (400, 500, 600)
    longer: int = 1333
    crop: Size = (384, 600)

    def __post_init__(self) -> None:
        if not self.scales or not self.first or not 0 < self.crop[0] <= self.crop[1]:
            raise ValueError(
                f"scales {self.scales} and first {self.first} must not be empty, and crop {self.crop} must "
                "be ascending pixels"
            )

    def __call__(self, scene: PictureObjects, rng: np.random.Generator) -> PictureObjects:
        """Resize, crop and resize the picture and its objects."""
        if rng.random() < 0.5:
            shorter = self.first[int(rng.integers(len(self.first)))]
            scene = resized(scene, fit_into(scene.size, (self.longer, shorter)))
            height, width = (
                int(rng.integers(min(side, self.crop[0]), min(side, self.crop[1]) + 1)) for side in scene.size
            )
            scene = _random_crop(scene, (height, width), rng)
        return ChosenScale(scales=self.scales)(scene, rng)


@dataclass(frozen=True, kw_only=True, slots=True)
class LargeScaleJitter:
    """Fit the picture into a square times a drawn ratio, its shape kept (Ghiasi et al. 2021).

    Args:
        side: Of the square, in pixels: a crop and padding to it should follow.
        ratios: Least and largest factor.
    """

    side: int = 1024
    ratios: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        if self.side < 1 or not 0 < self.ratios[0] <= self.ratios[1]:
            raise ValueError(f"side {self.side} and ratios {self.ratios} must be positive and ascending")

    def __call__(self, scene: PictureObjects, rng: np.random.Generator) -> PictureObjects:
        """Resize the picture and its objects."""
        ratio = self.ratios[0] + rng.random() * (self.ratios[1] - self.ratios[0])
        side = max(1, int(self.side * ratio))
        return resized(scene, fit_into(scene.size, (side, side)))


Scaling = ChosenScale | ScaleRange | CropOrNot | LargeScaleJitter


class ReadyPicture(NamedTuple):
    """A picture as the model wants it, with its objects.

    Args:
        image: float32 (3, H, W) in the model's range, padded.
        size: (height, width) without the padding.
        scene: The picture before that, and its objects.
    """

    image: Tensor
    size: Size
    scene: PictureObjects


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionTraining:
    """The official training pipelines; see `one_scale`, `many_scales`, `large_scale_jitter`, `htc_scales`.

    Args:
        scaling: How large the picture becomes.
        crop: (height, width) of a crop drawn after it, no larger than the picture; None makes none.
        flip: Chance of a horizontal flip, in [0, 1].
        padded: (height, width) that every picture is padded to; None pads to multiples of 32.
        copy_paste: How objects of another picture come in; None has none.
        boxes_from_masks: True has boxes follow what a crop leaves of their masks, where there are masks.
        pictures: The range of the result: ImageNet's mean and deviation, or [-1, 1] (``model``).
    """

    scaling: Scaling = ChosenScale()
    crop: Size | None = None
    flip: float = 0.5
    padded: Size | None = None
    copy_paste: CopyPaste | None = None
    boxes_from_masks: bool = False
    pictures: Pictures = "imagenet"

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip must lie in [0, 1]; got {self.flip}")
        crop, padded = self.crop, self.padded
        if padded is not None and (crop is None or padded[0] < crop[0] or padded[1] < crop[1]):
            raise ValueError(f"padded {self.padded} must be no smaller than the crop {self.crop}")

    def __call__(
        self,
        scene: PictureObjects,
        rng: np.random.Generator,
        other: Callable[[], PictureObjects] | None = None,
    ) -> ReadyPicture:
        """Change a picture and its objects.

        Args:
            scene: The picture as it is stored.
            rng: Decides everything.
            other: Reads another picture, for ``copy_paste``.
        """
        scene = self._changed(scene, rng)
        if self.copy_paste is not None and other is not None and rng.random() < self.copy_paste.chance:
            scene = self.copy_paste(scene, self._changed(other(), rng), rng)
        size = scene.size
        whole = self.padded or _whole(size)
        return ReadyPicture(pad_to(in_range(scene.image, self.pictures), whole, 0.0), size, scene)

    def _changed(self, scene: PictureObjects, rng: np.random.Generator) -> PictureObjects:
        scene = self.scaling(scene, rng)
        if self.crop is not None:
            scene = _random_crop(scene, self.crop, rng)
            if self.boxes_from_masks and scene.outlines:
                scene = _with_boxes_of_masks(scene)
            scene = scene.take(torch.nonzero(has_area(scene.boxes, _LEAST_SIDE)).flatten())
        return flipped(scene) if self.flip and rng.random() < self.flip else scene


def one_scale(pictures: Pictures = "imagenet") -> DetectionTraining:
    """The 1x schedule's: 1333 x 800 and a flip."""
    return DetectionTraining(pictures=pictures)


def many_scales(pictures: Pictures = "imagenet") -> DetectionTraining:
    """The 3x schedule's: DETR's scales and crops, then a crop to 1024 x 1024 at most, and a flip."""
    return DetectionTraining(scaling=CropOrNot(), crop=(1024, 1024), pictures=pictures)


def large_scale_jitter(side: int = 1024, pictures: Pictures = "imagenet") -> DetectionTraining:
    """Large-scale jitter: 0.1 to 2 times a square, a crop or padding to it, and a flip."""
    return DetectionTraining(
        scaling=LargeScaleJitter(side=side),
        crop=(side, side),
        padded=(side, side),
        boxes_from_masks=True,
        pictures=pictures,
    )


def htc_scales(pictures: Pictures = "imagenet", *, paste: bool = True) -> DetectionTraining:
    """HTC++'s: 1600 x (400 to 1400), a flip, and copy-paste in the place of InstaBoost."""
    return DetectionTraining(
        scaling=ScaleRange(), copy_paste=CopyPaste() if paste else None, pictures=pictures
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionViews:
    """The official test pipelines: a view of the picture for each scale, and with some a flipped one.

    Args:
        scales: (longer, shorter) sides in pixels that the picture is fitted into, its shape kept.
        flip: True adds each view flipped.
        pictures: The range, as in `DetectionTraining`.

    Raises:
        ValueError: There is no scale, or one is not positive.
    """

    scales: tuple[Size, ...] = ((1333, 800),)
    flip: bool = False
    pictures: Pictures = "imagenet"

    def __post_init__(self) -> None:
        if not self.scales or any(min(scale) < 1 for scale in self.scales):
            raise ValueError(f"scales must be pixels, and at least one; got {self.scales}")

    def __call__(self, image: Tensor) -> tuple[ScoredView, ...]:
        """The views of uint8 (3, H, W), padded to multiples of 32: one for each scale, two with ``flip``."""
        return tuple(
            self._view(image, scale, turned)
            for scale in self.scales
            for turned in ((False, True) if self.flip else (False,))
        )

    def _view(self, image: Tensor, scale: Size, turned: bool) -> ScoredView:
        size = fit_into(image.shape[-2:], scale)
        image = resize_picture(image, size)
        image = image.flip(-1) if turned else image
        return ScoredView(pad_to(in_range(image, self.pictures), _whole(size), 0.0), size, turned)


def _whole(size: Size) -> Size:
    """A size rounded up to multiples of 32."""
    return math.ceil(size[0] / _STRIDE) * _STRIDE, math.ceil(size[1] / _STRIDE) * _STRIDE


def _random_crop(scene: PictureObjects, most: Size, rng: np.random.Generator) -> PictureObjects:
    """A crop of that (height, width), or of the picture's where that is smaller, anywhere in it."""
    height, width = min(most[0], scene.size[0]), min(most[1], scene.size[1])
    top = int(rng.integers(0, scene.size[0] - height + 1))
    left = int(rng.integers(0, scene.size[1] - width + 1))
    if (height, width) == scene.size:
        return scene
    return cropped(scene, top, left, (height, width))


def _with_boxes_of_masks(scene: PictureObjects) -> PictureObjects:
    """The same with boxes around what is seen; crowds keep theirs."""
    boxes = torch.where(scene.crowd[:, None], scene.boxes, boxes_of(scene.masks()))
    return replace(scene, boxes=boxes)
