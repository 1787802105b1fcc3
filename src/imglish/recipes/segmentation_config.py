"""How segmentation's pictures are prepared, in training and in scoring."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from imglish.data.transforms.photometric import PhotometricDistortion
from imglish.data.transforms.segmentation import (
    Fit,
    Padding,
    Pictures,
    ScoringViews,
    SegmentationTraining,
)
from imglish.decoding.sliding import Windows


@dataclass(frozen=True, kw_only=True, slots=True)
class WholePictures:
    """Pictures of one size as they are, in [-1, 1], such as those of the World.

    Args:
        flip: Chance that a training picture is flipped, in [0, 1].
    """

    kind: Literal["whole"] = "whole"
    flip: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip must lie in [0, 1]; got {self.flip}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SeveralViews:
    """How a picture is scored at several scales: what differs from a single one.

    The defaults are those of most official configs whose name ends in ``_ms`` (adapter FACTS, section 8).

    Args:
        ratios: Factors of ``scored_scale``; the answers are averaged.
        flip: True shows each flipped as well.
        fit: See `ScoringViews`.
        padding: See `ScoringViews`.
    """

    ratios: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    flip: bool = True
    fit: Fit = "at_least_crop"
    padding: Padding = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class CroppedPictures:
    """Pictures of any size: crops of a random scale in training, sliding windows in scoring.

    The defaults are those of the official configs for ADE20K at 512 pixels (adapter FACTS, section 8).

    Args:
        crop: (height, width) in pixels of what the model is shown; smaller pictures are padded.
        stride: Rows and columns between two windows in scoring; 0 shows whole pictures.
        scale: (longer, shorter) side in pixels that training pictures are fitted into at ratio 1.
        ratios: Least and largest factor of ``scale``, drawn for each picture.
        most_of_one: Share of a crop's labelled pixels from which on one class is too much; see
            `SegmentationTraining`.
        flip: Chance that a training picture is flipped, in [0, 1].
        distortion: True changes brightness, contrast, saturation and hue of training pictures.
        range: ImageNet's mean and deviation (``imagenet``), or [-1, 1] (``model``), as BEiT-3 and AugReg
            want.
        scored_scale: (longer, shorter) side that scored pictures are fitted into at ratio 1.
        scored_ratios: Factors of ``scored_scale``; the answers of several are averaged.
        scored_flip: True shows scored pictures flipped as well.
        fit: Of scored pictures; see `ScoringViews`.
        padding: Of scored pictures smaller than the crop; see `ScoringViews`.
        scored_at: ``one_scale`` scores by these four, ``several_scales`` by ``several`` in their place.
        several: The recipe's scoring at several scales and flipped.
    """

    kind: Literal["cropped"] = "cropped"
    crop: tuple[int, int] = (512, 512)
    stride: tuple[int, int] = (341, 341)
    scale: tuple[int, int] = (2048, 512)
    ratios: tuple[float, float] = (0.5, 2.0)
    most_of_one: float = 0.75
    flip: float = 0.5
    distortion: bool = True
    range: Pictures = "imagenet"
    scored_scale: tuple[int, int] = (2048, 512)
    scored_ratios: tuple[float, ...] = (1.0,)
    scored_flip: bool = False
    fit: Fit = "multiple_of_32"
    padding: Padding = "none"
    scored_at: Literal["one_scale", "several_scales"] = "one_scale"
    several: SeveralViews = SeveralViews()

    def __post_init__(self) -> None:
        self.training(), self.windows(), self._one(), self._several()  # each checks its settings

    def training(self) -> SegmentationTraining:
        """The transform of training pictures."""
        return SegmentationTraining(
            crop=self.crop,
            scale=self.scale,
            ratios=self.ratios,
            most_of_one=self.most_of_one,
            flip=self.flip,
            distortion=PhotometricDistortion() if self.distortion else None,
            pictures=self.range,
        )

    def views(self) -> ScoringViews:
        """How a picture to be scored is shown."""
        return self._one() if self.scored_at == "one_scale" else self._several()

    def _one(self) -> ScoringViews:
        return ScoringViews(
            scale=self.scored_scale,
            ratios=self.scored_ratios,
            flip=self.scored_flip,
            fit=self.fit,
            crop=self.crop,
            padding=self.padding,
            pictures=self.range,
        )

    def _several(self) -> ScoringViews:
        several = self.several
        return replace(
            self._one(),
            ratios=several.ratios,
            flip=several.flip,
            fit=several.fit,
            padding=several.padding,
        )

    def windows(self) -> Windows | None:
        """How a view is cut; None shows it whole."""
        return Windows(self.crop, self.stride) if max(self.stride) else None


SegmentationPictures = WholePictures | CroppedPictures
