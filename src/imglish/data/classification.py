"""Labelled pictures as training samples, and mixing them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from imglish.data.formats.image_folder import LabelledPicture
from imglish.data.pictures import read_picture
from imglish.structures.batches import ClassificationBatch

PictureTransform = Callable[[Tensor, np.random.Generator], Tensor]


class ClassSample(NamedTuple):
    """Picture float (3, H, W) as the model wants it, its label, its number, and a seed for mixing."""

    image: Tensor
    label: int
    sample_id: int
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassDataset:
    """Labelled pictures.

    Args:
        records: Pictures with labels.
        transform: From uint8 (3, H, W) of any size to float (3, H, W) as the model wants it.
    """

    records: Sequence[LabelledPicture]
    transform: PictureTransform

    def __len__(self) -> int:
        return len(self.records)

    def get(self, index: int, rng: np.random.Generator) -> ClassSample:
        """Sample ``index``; raises DataFormatError where the picture is damaged."""
        record = self.records[index]
        image = self.transform(read_picture(record.path), rng)
        return ClassSample(image, record.label, index, int(rng.integers(2**31)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixing:
    """MixUp (arXiv 1710.09412) or CutMix (arXiv 1905.04899), one of them for a whole batch.

    Args:
        num_classes: Of the labels.
        mixup: Parameter of MixUp's beta distribution.
        cutmix: The same for CutMix.
        smoothing: Label smoothing.
    """

    num_classes: int
    mixup: float = 0.8
    cutmix: float = 1.0
    smoothing: float = 0.1

    def __call__(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Mix each picture of a batch with another one.

        Args:
            images: float (B, 3, H, W).
            labels: int64 (B,).
            seed: Decides everything.

        Returns:
            Pictures (B, 3, H, W), and shares of the classes (B, num_classes), smoothed.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if torch.rand(()) < 0.5:
                mix: v2.Transform = v2.CutMix(alpha=self.cutmix, num_classes=self.num_classes)
            else:
                mix = v2.MixUp(alpha=self.mixup, num_classes=self.num_classes)
            mixed, soft = mix(images, labels)
        return mixed, soft * (1 - self.smoothing) + self.smoothing / self.num_classes


@dataclass(frozen=True, kw_only=True, slots=True)
class CollateClasses:
    """Join samples to a batch; ``mixing`` says how pictures are mixed, None leaves them."""

    mixing: Mixing | None = None

    def __call__(self, samples: Sequence[ClassSample]) -> ClassificationBatch:
        """Stack pictures, and mix them by a draw that the samples decide."""
        images = torch.stack([sample.image for sample in samples])
        labels = torch.tensor([sample.label for sample in samples])
        soft = None
        if self.mixing is not None:
            images, soft = self.mixing(images, labels, samples[0].seed)
        return ClassificationBatch(
            images=images,
            labels=labels,
            sample_ids=torch.tensor([sample.sample_id for sample in samples]),
            soft_labels=soft,
        )
