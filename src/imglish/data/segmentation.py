"""Pictures with class maps as training samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from imglish.data.collate import stack_images
from imglish.data.formats.mask_folder import MaskRecord
from imglish.data.pictures import read_mask, read_picture
from imglish.errors import DataFormatError
from imglish.structures.batches import SegmentationBatch

_IGNORED = 255


class SegmentationSample(NamedTuple):
    """Picture uint8 (3, H, W), class ids int64 (H, W) with 255 ignored, number of the sample."""

    image: Tensor
    mask: Tensor
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationDataset:
    """Pictures with masks of one folder pair, all of one size.

    Args:
        records: Files.
        flip: Chance of a horizontal flip of both.
        zero_is_unlabelled: True for ADE20K's masks: 0 is ignored and class c is written as c + 1.
        num_classes: Larger class ids are refused.
        size: (height, width) in pixels that all pictures must have; None takes them as they are.
    """

    records: Sequence[MaskRecord]
    num_classes: int
    flip: float = 0.0
    zero_is_unlabelled: bool = True
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.records)

    def get(self, index: int, rng: np.random.Generator) -> SegmentationSample:
        """Sample ``index``.

        Raises:
            DataFormatError: A file is damaged, a size differs, or a value of the mask is no class.
        """
        record = self.records[index]
        image = read_picture(record.path)
        height, width = image.shape[-2:]
        if self.size is not None and self.size != (height, width):
            raise DataFormatError(
                f"{record.path}: is {height} high and {width} wide; expected {self.size[0]} high and "
                f"{self.size[1]} wide as the others: resize it with its mask, or leave both out"
            )
        mask = self._classes(read_mask(record.mask_path, (height, width)).to(torch.int64), record)
        if self.flip and rng.random() < self.flip:
            image, mask = image.flip(-1), mask.flip(-1)
        return SegmentationSample(image, mask, index)

    def _classes(self, values: Tensor, record: MaskRecord) -> Tensor:
        """Class ids of a mask's values, 255 where ignored."""
        first = int(self.zero_is_unlabelled)
        known = (values >= first) & (values < self.num_classes + first)
        ignored = ~known & ((values < first) | (values == _IGNORED))
        strangers = values[~known & ~ignored]
        if len(strangers):
            raise DataFormatError(
                f"{record.mask_path}: has the value {int(strangers[0])}; expected {first} to "
                f"{self.num_classes + first - 1} for {self.num_classes} classes, or {_IGNORED} for ignored: "
                "map its values to classes, or leave it out"
            )
        return torch.where(ignored, _IGNORED, values - first)


def collate_segmentation(samples: Sequence[SegmentationSample]) -> SegmentationBatch:
    """Stack pictures and masks of one size."""
    return SegmentationBatch(
        images=stack_images([sample.image for sample in samples]),
        masks=torch.stack([sample.mask for sample in samples]),
        sample_ids=torch.tensor([sample.number for sample in samples]),
    )
