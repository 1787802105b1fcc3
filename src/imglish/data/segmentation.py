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
    """

    records: Sequence[MaskRecord]
    num_classes: int
    flip: float = 0.0
    zero_is_unlabelled: bool = True

    def __len__(self) -> int:
        return len(self.records)

    def get(self, index: int, rng: np.random.Generator) -> SegmentationSample:
        """Sample ``index``; raises DataFormatError where a file is damaged or the sizes differ."""
        record = self.records[index]
        image = read_picture(record.path)
        mask = read_mask(record.mask_path, (image.shape[-2], image.shape[-1])).to(torch.int64)
        if self.zero_is_unlabelled:
            mask = torch.where(mask == 0, _IGNORED, mask - 1)
        if self.flip and rng.random() < self.flip:
            image, mask = image.flip(-1), mask.flip(-1)
        return SegmentationSample(image, mask, index)


def collate_segmentation(samples: Sequence[SegmentationSample]) -> SegmentationBatch:
    """Stack pictures and masks of one size."""
    return SegmentationBatch(
        images=stack_images([sample.image for sample in samples]),
        masks=torch.stack([sample.mask for sample in samples]),
        sample_ids=torch.tensor([sample.number for sample in samples]),
    )
